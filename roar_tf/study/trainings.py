"""What the stages model and train share: trainers, data, one training."""

import contextlib
import io
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from roar_tf import errors, fills, masking, randomness, shards, workspace
from roar_tf.cells import ORIGINAL, Cell
from roar_tf.datasets.source import SPLITS
from roar_tf.study import progress
from roar_tf.study.context import Context
from roar_tf.study.units import Target
from roar_tf.training import events, examples, files, loop

READ_BATCH = 1024
WEIGHTS = 'weights.npz'
"""The weights of an explained model."""
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
      context.devices,
    ),
  )


def examples_of(
  context: Context,
  cell: Cell | None,
  kind: str,
  input: str = 'image',
  splits: Sequence[str] = SPLITS,
) -> dict[str, examples.Examples | files.Files]:
  """Returns the splits of a cell.

  A source whose decoded train images fit `Context.memory_bound` is held in
  memory, which changes no result.

  Args:
    context: the experiment.
    cell: the cell, None for `original`.
    kind: `shards` reads masked shards, `ranking` masks originals on the fly;
      both give the same pixels.
    input: `maskonly` for the masks in the place of the images.
    splits: those wanted.

  Raises:
    DataError: a shard is damaged; nothing is trained on any of it.
  """
  source = context.experiment.source
  pixels = masked
  if input == 'maskonly':
    kind, pixels = 'ranking', _masks
  key = (cell, kind, input, *splits)
  if not fit_memory(source, context.images('train'), context.memory_bound):
    # Markers, ids and labels are read once for all runs of a cell.
    return context.cached(
      ('files', *key),
      lambda: {s: _on_disk(context, cell, kind, s, pixels) for s in splits},
      keep=2,
    )

  def load():
    return {
      split: examples.from_batches(
        (
          batch
          for part in context.all_shards(split)
          for batch in _batches(context, cell, kind, *part, pixels)
        ),
        tuple(context.records(*part) for part in context.all_shards(split)),
      )
      for split in splits
    }

  # Runs come cell by cell: the newest two serve runs side by side.
  return context.cached(('examples', *key), load, keep=2)


def fit_memory(source, images: int, bound: int | None = None) -> bool:
  """Whether so many images of a source are held in memory.

  Args:
    source: the source.
    images: how many they are.
    bound: bytes; `examples.MEMORY_BOUND` if None.
  """
  bound = examples.MEMORY_BOUND if bound is None else bound
  return int(np.prod(source.image_shape)) * images <= bound


def _on_disk(context, cell, kind, split, pixels) -> files.Files:
  """Returns a split of a cell, to be read while it is trained on."""
  source = context.experiment.source
  name, ranked = _datasets(cell, kind)
  images = _records(context, name, split, plain_layout(source))
  if ranked is None:
    return files.Files(images)
  return files.Files(
    images,
    _records(context, ranked, split, ranking_layout(source, cell.granularity)),
    lambda images, levels, keys: pixels(context, cell, images, levels, keys),
  )


def _records(context, config, split, layout) -> files.Records:
  """Returns the shards of one dataset of a source."""
  parts = context.all_shards(split)
  return files.Records(
    tuple(context.shard_path(config, *part) for part in parts),
    tuple(
      workspace.require(context.shard_done(config, *part))['contents']
      for part in parts
    ),
    layout,
  )


def _datasets(cell: Cell | None, kind: str) -> tuple[str, str | None]:
  """Returns the dataset that images come from, and their ranking or None."""
  if cell is None:
    return ORIGINAL, None
  if kind == 'shards':
    return cell.name, None
  return ORIGINAL, f'ranking_{cell.ranking}'


def plain_layout(source) -> shards.Layout:
  """Returns what a record of a cell holds."""
  return shards.Layout(image=source.image_shape, classes=source.num_classes)


def _batches(context, cell, kind, split, index, pixels):
  """Yields the batches of one shard of a cell."""
  source = context.experiment.source
  name, ranked = _datasets(cell, kind)
  batches = context.batches(
    name, plain_layout(source), split, index, READ_BATCH
  )
  if ranked is None:
    yield from batches
    return
  levels = context.batches(
    ranked, ranking_layout(source, cell.granularity), split, index, READ_BATCH
  )
  for batch, ranking in zip(batches, levels, strict=True):
    check_same_ids(context, cell.ranking, batch, ranking)
    keys = randomness.keys_of_ids(batch['id'])
    images = pixels(context, cell, batch['image'], ranking['levels'], keys)
    yield {**batch, 'image': images}


def ranking_layout(source, granularity: str) -> shards.Layout:
  """Returns the layout of a source's rankings."""
  height, width, channels = source.image_shape
  depth = 1 if granularity == 'pixel' else channels
  return shards.Layout(levels=(height, width, depth))


def masked(context: Context, cell: Cell, images, levels, keys) -> tf.Tensor:
  """Returns images as a cell has them, same type.

  Args:
    context: the experiment.
    cell: the cell.
    images: [B, H, W, C].
    levels: their ranking.
    keys: int32 [B, 2], of the images' ids; the experiment's seed is added.
  """
  mean, _ = context.statistics
  fill = context.cached(
    ('fill', cell.fill), lambda: fills.named(cell.fill, mean)
  )
  # In a process that has a GPU, too: `tf.data` masks on the host.
  with tf.device('CPU:0'):
    return masking.mask(
      images,
      levels,
      threshold=cell.threshold,
      mode=cell.mode,
      fill=fill,
      keys=randomness.fold(
        keys, randomness.Purpose.SEED, context.experiment.seed
      ),
    )


def _masks(context: Context, cell: Cell, images, levels, keys) -> tf.Tensor:
  """Returns the masks of a cell as images [B, H, W, C], same type."""
  del context, keys
  return masking.picture(
    images, levels, threshold=cell.threshold, mode=cell.mode
  )


def check_fills(source, cells: Iterable[Cell]) -> None:
  """Raises UsageError for a fill that the images of a source cannot take."""
  channels = source.image_shape[-1]
  for fill in dict.fromkeys(cell.fill for cell in cells):
    if not masking.fits(fill, channels):
      values = masking.CONSTANT_FILLS[fill]
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
  data: dict[str, examples.Examples | files.Files],
  seed_words: tuple,
  directory: str,
  fingerprint: Mapping,
) -> loop.pure.State:
  """Trains and evaluates once, and writes everything but the DONE marker.

  Writes `result.json` (accuracy, top5, steps, test_images),
  `test_predictions.npz` (ids, labels, predictions, correct), `config.gin`,
  `timing.json`, and `events` for TensorBoard. Checkpoints lie beside them until
  the end.

  Returns:
    The last state.
  """
  start = time.monotonic()
  machine = trainer(context, role)
  in_steps = machine.step_seconds
  checkpoints = f'{directory}/checkpoints'
  what = context.workspace.relative(directory)
  total = machine.training.steps(len(data['train']))
  with contextlib.ExitStack() as stack:
    bar = stack.enter_context(progress.bar(total, what, 'steps', inner=True))
    log = {}
    if context.devices.is_chief:
      log['log'] = stack.enter_context(
        events.writing(
          f'{directory}/events', context.experiment.operative_config
        )
      )
    state, steps = machine.train(
      data['train'],
      *seed_words,
      resumption=loop.Resumption(checkpoints, fingerprint, stop=context.stop),
      progress=progress.logged(bar, what),
      **log,
    )
  outcome = machine.evaluate(state, data['test'])
  if context.devices.is_chief:
    write_outcome(
      context,
      directory,
      outcome,
      data['test'],
      steps,
      {
        'seconds': time.monotonic() - start,
        'step_seconds': machine.step_seconds - in_steps,
      },
    )
  return state


def write_outcome(
  context: Context, directory: str, outcome, test, steps: int, timing
) -> None:
  """Writes the files of a finished training and deletes its checkpoints."""
  workspace.write_json(
    f'{directory}/result.json',
    {
      'accuracy': float(outcome.correct.mean()),
      'top5': float(outcome.in_top5.mean()),
      'steps': steps,
      'test_images': len(test),
    },
  )
  _write_npz(
    f'{directory}/test_predictions.npz',
    ids=test.ids.astype('S'),
    labels=np.asarray(test.labels),
    predictions=outcome.predictions,
    correct=outcome.correct,
  )
  workspace.write_atomic(
    f'{directory}/config.gin', context.experiment.operative_config.encode()
  )
  workspace.write_json(f'{directory}/timing.json', timing)
  workspace.remove(f'{directory}/checkpoints')


def commit(
  context: Context, target: Target, fingerprint, directory: str, files
) -> None:
  """Writes the DONE marker of a training, on the host that writes.

  All hosts wait for it: they must agree on what is done.
  """
  if context.devices.is_chief:
    target.commit(
      fingerprint,
      files=workspace.checksums(directory, files),
      replicas=context.devices.replicas,
    )
  context.devices.barrier()


def _write_npz(path: str, **arrays) -> None:
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  workspace.write_atomic(path, buffer.getvalue())


def save_weights(directory: str, state: loop.pure.State) -> None:
  """Publishes the weights of a state as npz, in the model's order."""
  _write_npz(
    f'{directory}/{WEIGHTS}',
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
