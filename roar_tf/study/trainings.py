"""What the stages model and train share: trainers, data, one training."""

import io
import time
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from roar_tf import errors, masking, shards, workspace
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.datasets.source import SPLITS
from roar_tf.study import progress
from roar_tf.study.context import Context
from roar_tf.training import examples, loop

READ_BATCH = 1024
CHECKED = ('result.json', 'test_predictions.npz')
"""Files of a training that are a function of its settings and inputs alone."""


def trainer(context: Context, role: str) -> loop.Trainer:
  """Returns the trainer of a role, `explained` or `retrained`.

  Compiled functions live in it, so it is made once per process; both roles
  share one if their configurations agree.
  """
  experiment = context.experiment
  factory, training = {
    'explained': (experiment.explained_model, experiment.explained),
    'retrained': (experiment.retrained_model, experiment.retrained),
  }[role]
  source = experiment.source
  return context.cached(
    ('trainer', workspace.digest(training.settings(factory))),
    lambda: loop.Trainer(
      factory,
      source.image_shape,
      source.num_classes,
      training,
      *context.statistics,
    ),
  )


def examples_of(
  context: Context, cell: Cell | None, kind: str
) -> dict[str, examples.Examples]:
  """Returns both splits of a cell in memory.

  Args:
    context: the experiment.
    cell: the cell, None for `original`.
    kind: `shards` reads masked shards, `ranking` masks originals on the fly;
      both give the same pixels.

  Raises:
    DataError: a shard is damaged; nothing is trained on any of it.
    RoarError: the images would not fit the memory bound.
  """
  source = context.experiment.source
  size = np.prod(source.image_shape) * context.images('train')
  if size > examples.MEMORY_BOUND:
    raise errors.RoarError(
      f'{source.name} has {size / 2**30:.0f} GiB of train images, more than '
      f'the {examples.MEMORY_BOUND / 2**30:.0f} GiB that training holds in '
      'memory; set gin parameter Source.train_subset.'
    )

  def load():
    return {
      split: examples.from_batches(
        batch
        for part in context.all_shards(split)
        for batch in _batches(context, cell, kind, *part)
      )
      for split in SPLITS
    }

  # Runs come cell by cell: the newest two serve runs side by side.
  return context.cached(('examples', cell, kind), load, keep=2)


def _batches(context, cell, kind, split, index):
  """Yields the batches of one shard of a cell."""
  source = context.experiment.source
  plain = shards.Layout(image=source.image_shape, classes=source.num_classes)
  name = cell.name if cell and kind == 'shards' else ORIGINAL
  batches = context.batches(name, plain, split, index, READ_BATCH)
  if cell is None or kind == 'shards':
    yield from batches
    return
  levels = context.batches(
    f'ranking_{cell.ranking}',
    ranking_layout(source, cell.granularity),
    split,
    index,
    READ_BATCH,
  )
  for batch, ranking in zip(batches, levels, strict=True):
    check_same_ids(context, cell.ranking, batch, ranking)
    yield {**batch, 'image': masked(context, cell, batch, ranking)}


def ranking_layout(source, granularity: str) -> shards.Layout:
  """Returns the layout of a source's rankings."""
  height, width, channels = source.image_shape
  depth = 1 if granularity == 'pixel' else channels
  return shards.Layout(levels=(height, width, depth))


def masked(context: Context, cell: Cell, batch, ranking) -> tf.Tensor:
  """Returns the images of a batch as a cell has them, uint8 [B, H, W, C]."""
  mean, _ = context.statistics
  fills = {'mean': mean, **masking.CONSTANT_FILLS}
  return masking.mask(
    batch['image'],
    ranking['levels'],
    threshold=cell.threshold,
    mode=cell.mode,
    fill=fills[cell.fill],
  )


def check_fills(source, cells: Iterable[Cell]) -> None:
  """Raises UsageError for a fill that the images of a source cannot take."""
  channels = source.image_shape[-1]
  for fill in dict.fromkeys(cell.fill for cell in cells):
    values = masking.CONSTANT_FILLS.get(fill)
    if values and len(values) != channels:
      raise errors.UsageError(
        f'Fill "{fill}" needs images of {len(values)} channels, and those of '
        f'{source.name} have {channels}; take fill "mean".'
      )


def check_same_ids(context: Context, ranking_name, batch, ranking) -> None:
  """Raises DataError if a ranking's examples are not the images' ones."""
  if not np.array_equal(batch['id'].numpy(), ranking['id'].numpy()):
    raise errors.DataError(
      f'ranking {ranking_name} of {context.experiment.source.name} belongs to '
      'other images than "original" holds; delete it and rank again.'
    )


def train_one(
  context: Context,
  role: str,
  data: dict[str, examples.Examples],
  seed_words: tuple,
  directory: str,
  digest: str,
) -> loop.pure.State:
  """Trains and evaluates once, and writes everything but the DONE marker.

  Writes `result.json` (accuracy, top5, steps, test_images),
  `test_predictions.npz` (ids, labels, predictions, correct), `config.gin` and
  `timing.json`. A checkpoint lies beside them until the end.

  Returns:
    The last state.
  """
  start = time.monotonic()
  machine = trainer(context, role)
  in_steps = machine.step_seconds
  saved = f'{directory}/checkpoint.npz'
  what = context.workspace.relative(directory)
  total = machine.training.steps(len(data['train']))
  with progress.bar(total, what, 'steps', inner=True) as bar:
    state, steps = machine.train(
      data['train'],
      *seed_words,
      resumption=loop.Resumption(saved, digest, stop=context.stop),
      progress=progress.logged(bar, what),
    )
  outcome = machine.evaluate(state, data['test'])
  workspace.write_json(
    f'{directory}/result.json',
    {
      'accuracy': float(outcome.correct.mean()),
      'top5': float(outcome.in_top5.mean()),
      'steps': steps,
      'test_images': len(data['test']),
    },
  )
  _write_npz(
    f'{directory}/test_predictions.npz',
    ids=data['test'].ids.astype('S'),
    labels=data['test'].labels.numpy(),
    predictions=outcome.predictions,
    correct=outcome.correct,
  )
  workspace.write_atomic(
    f'{directory}/config.gin', context.experiment.operative_config.encode()
  )
  workspace.write_json(
    f'{directory}/timing.json',
    {
      'seconds': time.monotonic() - start,
      'step_seconds': machine.step_seconds - in_steps,
    },
  )
  workspace.remove(saved)
  return state


def _write_npz(path: str, **arrays) -> None:
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  workspace.write_atomic(path, buffer.getvalue())


def save_weights(path: str, state: loop.pure.State) -> None:
  """Publishes the weights of a state as npz, in the model's order."""
  _write_npz(
    path,
    **{
      f'{part}_{index:05d}': np.asarray(value)
      for part in ('trainable', 'moving')
      for index, value in enumerate(state[part])
    },
  )


def load_weights(path: str) -> loop.pure.State:
  """Returns what `save_weights` saved; raises DataError if it is damaged."""
  try:
    data = np.load(io.BytesIO(workspace.read_bytes(path)), allow_pickle=False)
    return {
      part: [
        tf.constant(data[name])
        for name in sorted(data.files)
        if name.startswith(part)
      ]
      for part in ('trainable', 'moving')
    }
  except Exception as e:
    raise errors.DataError(
      f'{path} is damaged ({str(e).splitlines()[0]}); delete its directory and '
      'run the same command again.'
    ) from e
