"""Shards of rankings: level maps, written from one pass over some images."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from roar_tf import engine, errors, randomness, ranking, shards
from roar_tf.engine import progress
from roar_tf.estimators import blocks
from roar_tf.lazy import tf
from roar_tf.study.context import Context
from roar_tf.study.dataset import Shard
from roar_tf.study.experiment import Experiment
from roar_tf.study.scoring import meaning

MOST_IMAGES = 128
"""Images per call and device of the attribution step, at most."""
GROUPS = 'groups'
"""What a batch may hold beside images: see `ranking.levels`."""

Scores = Callable[
  [Sequence[str], Mapping, 'tf.Tensor', dict[str, str]],
  Mapping[str, 'tf.Tensor'],
]
"""(names of estimators, batch, keys, faults) -> scores, see `Scoring`."""


def images_per_call(experiment: Experiment) -> int:
  """Returns how many images one device explains per call.

  Partial batches are padded to it.
  """
  height, width, _ = experiment.source.image_shape
  bound = experiment.attribution.batch_size
  return min(MOST_IMAGES, bound or blocks.default_bound(height, width))


def write(
  context: Context,
  artefacts: Sequence[Shard],
  title: str,
  batches: Callable[[int], Iterable[Mapping]],
  score: Scores,
) -> Iterator[engine.Made]:
  """Writes the same shard of some rankings, from one pass over its images.

  Args:
    context: the experiment.
    artefacts: that shard of each ranking.
    title: what a progress bar calls the work.
    batches: returns the examples that are ranked, given how many at once.
    score: what scores a full batch of them.

  Raises:
    PartsFailedError: some estimators are faulty; the others' rankings were
      yielded.
  """
  first = artefacts[0]
  part = first.split, first.index
  size = images_per_call(context.experiment) * context.devices.explaining
  names = {shard.settings['estimator'] for shard in artefacts}
  faults: dict[str, str] = {}
  with contextlib.ExitStack() as stack:
    bar = stack.enter_context(
      progress.bar(context.records(*part), title, 'images', inner=True)
    )
    advance = progress.logged(bar, title)
    writers = {
      shard: stack.enter_context(
        shards.writing(context.shard_path(shard.config, *part))
      )
      for shard in artefacts
    }
    for batch in batches(size):
      _rank(context.experiment, batch, size, writers, score, faults)
      if len(faults) == len(names):
        break
      advance(len(batch['id']))
  for shard, writer in writers.items():
    if not writer.abandoned:
      yield engine.Made(shard, {'contents': writer.contents, 'batch': size})
  if faults:
    raise errors.PartsFailedError('\n'.join(faults.values()))


def _rank(
  experiment: Experiment,
  batch: Mapping,
  size: int,
  writers: Mapping[Shard, shards.Writer],
  score: Scores,
  faults: dict[str, str],
) -> None:
  """Adds the ranks of a batch to the shards.

  Args:
    experiment: how it is ranked.
    batch: at most `size` examples.
    size: how many are scored at once.
    writers: of each ranking; those of faulty estimators are abandoned.
    score: what scores a full batch.
    faults: {estimator: sentence}, to which this adds.
  """
  count = len(batch['id'])
  # One shape, one trace.
  batch = {name: blocks.padded(value, size) for name, value in batch.items()}
  groups = batch.pop(GROUPS, None)
  keys = randomness.keys_of_ids(batch['id'])
  names = dict.fromkeys(
    shard.settings['estimator']
    for shard in writers
    if shard.settings['estimator'] not in faults
  )
  scores = score(names, batch, keys, faults)
  for estimator, values in scores.items():
    try:
      title = f'estimator "{estimator}"'
      ranking.check_finite(values, batch['id'], title)
    except ValueError as e:
      faults[estimator] = str(e)
  keys = randomness.fold(keys, randomness.Purpose.SEED, experiment.seed)
  for shard, writer in writers.items():
    estimator = shard.settings['estimator']
    granularity = shard.settings['granularity']
    if estimator in faults:
      writer.abandoned = True
      continue
    values = scores[estimator]
    if granularity == 'element':  # Files may hold one score per pixel.
      values = tf.broadcast_to(values, batch['image'].shape)
    levels = ranking.levels(
      values,
      keys,
      granularity,
      experiment.ranking.ties,
      meaning(estimator).base.counts,
      experiment.ranking.cuts,
      groups,
    )
    records = {'id': batch['id'][:count], 'levels': levels[:count]}
    writer.write(shard.layout.serialize(records))
