"""The examples of a cell, in memory or on disk, and how they are masked."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from roar_tf import errors, fills, masking, randomness, shards
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.datasets.source import SPLITS, Source
from roar_tf.engine import markers
from roar_tf.lazy import tf
from roar_tf.study import costs
from roar_tf.study.context import Cache, Context
from roar_tf.study.dataset import Dataset
from roar_tf.study.experiment import Experiment

STREAMED = 2.5
"""Windows of shards that a streamed training holds: one that is used, one that
is read ahead, and what is decoded."""
READ_BATCH = 1024
"""Images that are decoded at once."""


def plain_layout(source: Source) -> shards.Layout:
  """Returns what a record of a cell holds."""
  return shards.Layout(image=source.image_shape, classes=source.num_classes)


def fits_memory(source: Source, images: int, bound: int | None = None) -> bool:
  """Whether so many images of a source are held in memory.

  Args:
    source: the source.
    images: how many they are.
    bound: bytes; `examples.MEMORY_BOUND` if None.
  """
  from roar_tf.training import examples

  bound = examples.MEMORY_BOUND if bound is None else bound
  return int(np.prod(source.image_shape)) * images <= bound


def memory(experiment: Experiment, bound: int | None = None) -> float:
  """Returns about how many bytes the images of one training take in memory.

  Held in memory, those of the newest two cells are there. Streamed, it is
  `STREAMED` times a window of shards; see docs/evidence/memory.md.

  Args:
    experiment: its source, its ranking and how it trains.
    bound: see `fits_memory`.
  """
  source, training = experiment.source, experiment.retrained
  if fits_memory(source, source.count('train'), bound):
    images = source.count('train') + source.count('test')
    return 2.0 * math.prod(source.image_shape) * images
  record = costs.record_bytes(experiment, plain_layout(source), (), None)
  if experiment.study and experiment.study.masking == 'ranking':
    channels = source.image_shape[-1]
    granularities = experiment.study.granularities
    sides = source.image_shape[:2]
    levels = (*sides, channels if 'element' in granularities else 1)
    layout = shards.Layout(levels=levels)
    record += costs.record_bytes(experiment, layout, (), None)
  count = source.shard_count('train')
  share = min(training.shuffle_shards, count) / count
  return STREAMED * share * source.count('train') * record


def check_fills(source: Source, cells: Iterable[Cell]) -> None:
  """Raises UsageError for a fill that the images of a source cannot take."""
  channels = source.image_shape[-1]
  for fill in dict.fromkeys(cell.fill for cell in cells):
    if not masking.fits(fill, channels):
      values = masking.CONSTANT_FILLS[fill]
      raise errors.UsageError(
        f'Fill "{fill}" needs images of {len(values)} channels, and those of '
        f'{source.name} have {channels}; take fill "mean".'
      )


def check_same_ids(source: Source, ranking: str, batch, levels) -> None:
  """Raises DataError if a ranking's examples are not the images' ones."""
  if not np.array_equal(batch['id'].numpy(), levels['id'].numpy()):
    raise errors.DataError(
      f'ranking {ranking} of {source.name} belongs to other images than '
      '"original" holds; delete it and rank again.'
    )


class Data:
  """Reads and masks the datasets of one source."""

  def __init__(self, context: Context):
    self._context = context
    self._fills = Cache()
    # Runs come cell by cell: the newest two serve runs side by side.
    self._in_memory, self._on_disk = Cache(most=2), Cache(most=2)

  def examples(
    self,
    cell: Cell | None,
    ranking: Dataset | None = None,
    input_: str = 'image',
    splits: Sequence[str] = SPLITS,
  ) -> Mapping:
    """Returns the splits of a cell: `Examples`, or a `Stream` from disk.

    A source whose decoded train images fit `Context.memory_bound` is held in
    memory, which changes no result.

    Args:
      cell: the cell, None for `original`.
      ranking: that of the cell, where originals are masked on the fly; None
        reads the cell's shards. Both give the same pixels.
      input_: `maskonly` for the masks in the place of the images; they are made
        on the fly.
      splits: those wanted.

    Raises:
      DataError: a shard is damaged; nothing is trained on any of it.
    """
    from roar_tf.training import examples

    context = self._context
    pixels = _masks if input_ == 'maskonly' else self.masked
    key = (cell, ranking and ranking.config, input_, *splits)
    bound = context.memory_bound
    if not fits_memory(context.source, context.images('train'), bound):
      # Markers, ids and labels are read once for all runs of a cell.
      return self._on_disk.get(
        key,
        lambda: {s: self._stream(cell, ranking, s, pixels) for s in splits},
      )
    return self._in_memory.get(
      key,
      lambda: {
        split: examples.from_batches(
          (
            batch
            for part in context.all_shards(split)
            for batch in self._batches(cell, ranking, *part, pixels)
          ),
          tuple(context.records(*part) for part in context.all_shards(split)),
        )
        for split in splits
      },
    )

  def masked(self, cell: Cell, images, levels, keys):
    """Returns images as a cell has them, same type.

    Args:
      cell: the cell.
      images: [B, H, W, C].
      levels: their ranking.
      keys: int32 [B, 2], of the images' ids; the experiment's seed is added.
    """
    mean, _ = self._context.statistics
    fill = self._fills.get(cell.fill, lambda: fills.named(cell.fill, mean))
    seed = self._context.experiment.seed
    # In a process that has a GPU, too: `tf.data` masks on the host.
    with tf.device('CPU:0'):
      return masking.mask(
        images,
        levels,
        threshold=cell.threshold,
        mode=cell.mode,
        fill=fill,
        keys=randomness.fold(keys, randomness.Purpose.SEED, seed),
      )

  def _batches(
    self,
    cell: Cell | None,
    ranking: Dataset | None,
    split: str,
    index: int,
    pixels: Callable,
  ) -> Iterator[dict]:
    """Yields the batches of one shard of a cell."""
    context = self._context
    layout, part = plain_layout(context.source), (split, index, READ_BATCH)
    batches = context.batches(_images_of(cell, ranking), layout, *part)
    if ranking is None:
      yield from batches
      return
    ranks = context.batches(ranking.config, ranking.layout, *part)
    for batch, ranked in zip(batches, ranks, strict=True):
      check_same_ids(context.source, cell.ranking, batch, ranked)
      keys = randomness.keys_of_ids(batch['id'])
      images = pixels(cell, batch['image'], ranked['levels'], keys)
      yield {**batch, 'image': images}

  def _stream(
    self,
    cell: Cell | None,
    ranking: Dataset | None,
    split: str,
    pixels: Callable,
  ):
    """Returns a split of a cell, to be read while it is trained on."""
    from roar_tf.training import streams

    layout = plain_layout(self._context.source)
    images = self._files(_images_of(cell, ranking), split, layout)
    if ranking is None:
      return streams.Stream(images)
    return streams.Stream(
      images,
      self._files(ranking.config, split, ranking.layout),
      lambda images, levels, keys: pixels(cell, images, levels, keys),
    )

  def _files(self, config: str, split: str, layout: shards.Layout):
    """Returns the shards of one split of a dataset."""
    from roar_tf.training import streams

    context = self._context
    parts = context.all_shards(split)
    return streams.Records(
      tuple(context.shard_path(config, *part) for part in parts),
      tuple(
        markers.require(context.shard_marker(config, *part))['contents']
        for part in parts
      ),
      layout,
    )


def _images_of(cell: Cell | None, ranking: Dataset | None) -> str:
  """Returns the dataset that the images of a cell are read from."""
  return ORIGINAL if cell is None or ranking else cell.name


def _masks(cell: Cell, images, levels, keys):
  """Returns the masks of a cell as images [B, H, W, C], same type."""
  del keys
  return masking.picture(
    images, levels, threshold=cell.threshold, mode=cell.mode
  )
