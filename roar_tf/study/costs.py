"""What unfinished artefacts take: work to compute, and bytes to write.

Every stage of a study says what its artefacts take (`cost`); a forecast adds it
up. Bytes are as those of finished shards of the same kind, where there are
some. Otherwise they are estimates, of which docs/evidence/bytes.md
has the measurements.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable

from roar_tf import shards
from roar_tf.study.experiment import Experiment

RECORD = 16
"""Bytes that a TFRecord takes beside its data: a length and two checksums."""
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
"""Bytes of a report."""
_SAMPLES = 3
"""Finished shards that are looked at."""


@dataclasses.dataclass(frozen=True)
class Cost:
  """What some artefacts take.

  Attributes:
    bytes: to be written.
    images_explained: images that some gradient estimator explains.
    gradient_evaluations: of all of them together.
    trainings: models that are trained.
    steps: training steps of runs.
    explained_steps: training steps of explained models.
    models_tested: models that classify the test images.
    images_tested: how many those are, over all models.
  """

  bytes: float = 0
  images_explained: int = 0
  gradient_evaluations: int = 0
  trainings: int = 0
  steps: int = 0
  explained_steps: int = 0
  models_tested: int = 0
  images_tested: int = 0

  def __add__(self, other: 'Cost') -> 'Cost':
    """Returns what both take together."""
    return Cost(
      *(
        getattr(self, field.name) + getattr(other, field.name)
        for field in dataclasses.fields(self)
      )
    )


def total(costs: Iterable[Cost]) -> Cost:
  """Returns what all take together."""
  return sum(costs, Cost())


def of_test(images: int) -> Cost:
  """Returns what the test of one model takes, files of a run included."""
  return Cost(
    bytes=PER_RUN + PER_PREDICTION * images,
    models_tested=1,
    images_tested=images,
  )


def record_bytes(
  experiment: Experiment,
  layout: shards.Layout,
  finished: Iterable[str],
  read: Callable[[str], dict | None],
) -> float:
  """Returns the bytes of a record.

  Args:
    experiment: it says how many levels a ranking tells apart.
    layout: what the record holds.
    finished: markers of finished shards of the same kind.
    read: returns the content of a marker.
  """
  samples = [read(path) for path in itertools.islice(finished, _SAMPLES)]
  contents = [marker['contents'] for marker in samples if marker]
  if records := sum(c['records'] for c in contents):
    return RECORD + sum(c['bytes'] for c in contents) / records
  if layout.levels:
    bits = _information(experiment.ranking.cuts)
    return math.prod(layout.levels) * bits / 8 * RANKING + PER_RECORD
  ratio = PNG_LARGE if min(layout.image[:2]) >= SMALL_SIDE else PNG_SMALL
  truth = 30 if layout.truth else 0
  return math.prod(layout.image) * ratio + PER_RECORD + truth


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
