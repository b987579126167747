"""Bytes that a study still writes, stage by stage.

Where the workspace holds some of a kind already, the rest is as large, image by
image. Otherwise estimates, of which WORKSPACE.md ("Bytes of a ranking") has the
measurements.
"""

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from roar_tf.planning.amounts import RECORD, Amount, Tally
from roar_tf.study import pipeline, train_stage
from roar_tf.study.context import Context
from roar_tf.study.experiment import Experiment

PNG_LARGE, PNG_SMALL = 0.55, 0.85
"""Of the raw bytes: photographs of 224 x 224, and images of 16 to 64 pixels."""
SMALL_SIDE = 96
PER_RECORD = 85 + RECORD
"""Id, label and names of features."""
RANKING = 1.05
"""Of the information of uniform levels: runs-only zlib takes 1.01 to 1.07."""
PER_PREDICTION = 4
"""Of test_predictions.npz, compressed."""
PER_RUN = 12_000
"""Configuration, events and markers of a run."""
REPORT = 1_000_000
_SAMPLES = 3


def estimate(
  works: Sequence[pipeline.Work],
  tallies: Sequence[Tally],
  amounts: Mapping[str, Amount],
) -> dict[str, int]:
  """Returns the bytes that every stage still writes."""
  found = {}
  for tally in tallies:
    if tally.stage == 'report':
      found['report'] = REPORT * tally.left
      continue
    found[tally.stage] = sum(
      _of_stage(work, tally.stage, amounts[work.context.experiment.source.name])
      for work in works
    )
  return found


def _of_stage(work: pipeline.Work, stage: str, amount: Amount) -> int:
  context = work.context
  if stage == 'model':
    return amount.explained_models * _model(context, amount.test_images)
  if stage == 'train':
    tested = amount.evaluations - amount.explained_models
    return round(tested * _run(work, amount.test_images))
  total = 0
  for (of, kind), records in amount.records.items():
    if of != stage or not records.left:
      continue
    if records.done:
      each = records.done_bytes / records.done
    else:
      each = record(context.experiment, kind)
    total += round(records.left * each)
  return total


def record(experiment: Experiment, kind: str) -> float:
  """Returns estimated bytes of a record; kinds as in `Amount.records`."""
  height, width, channels = experiment.source.image_shape
  pixels = height * width
  if kind in ('pixel', 'element'):
    levels = pixels * (channels if kind == 'element' else 1)
    bits = _information(experiment.ranking.cuts)
    return levels * bits / 8 * RANKING + PER_RECORD
  ratio = PNG_LARGE if min(height, width) >= SMALL_SIDE else PNG_SMALL
  truth = 30 if kind == 'original' and experiment.source.truth else 0
  return pixels * channels * ratio + PER_RECORD + truth


def _information(cuts) -> float:
  """Returns bits of a level: of 1..100, or of the cuts and 100."""
  if not cuts:
    return math.log2(100)
  edges = [0, *cuts, 100]
  shares = [
    (after - before) / 100
    for before, after in zip(edges, edges[1:], strict=False)
  ]
  return -sum(p * math.log2(p) for p in shares if p)


def _run(work: pipeline.Work, test_images: int) -> float:
  """Returns bytes of a run, as of a few that are done."""
  sizes = []
  for run in work.runs:
    if len(sizes) == _SAMPLES:
      break
    if tf.io.gfile.exists(train_stage.done(work.context, run)):
      sizes.append(_bytes_below(train_stage.directory(work.context, run)))
  if sizes:
    return sum(sizes) / len(sizes)
  return PER_RUN + PER_PREDICTION * test_images


def _model(context: Context, test_images: int) -> int:
  experiment = context.experiment
  other = PER_RUN + PER_PREDICTION * test_images
  if experiment.given:
    path = experiment.given.path
    size = tf.io.gfile.stat(path).length if path else 0
    return size + other
  source = experiment.source
  model = experiment.explained_model(source.image_shape, source.num_classes)
  return 4 * model.count_params() + other


def _bytes_below(path: str) -> int:
  return sum(
    tf.io.gfile.stat(f'{place.rstrip("/")}/{name}').length
    for place, _, names in tf.io.gfile.walk(path)
    for name in names
  )
