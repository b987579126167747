"""Stage rank: `original` shards and the explained model to ranking datasets."""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from roar_tf import errors, randomness, ranking, shards
from roar_tf.cells import ORIGINAL
from roar_tf.estimators import blocks, plan, registry
from roar_tf.study import (
  datasets_stage,
  explaining,
  external,
  model_stage,
  progress,
  trainings,
)
from roar_tf.study.context import Context
from roar_tf.study.experiment import Experiment
from roar_tf.study.units import Target, Unit

VERSION = 3
MOST_IMAGES = 128
"""Images per call and device of the attribution step, at most."""


def images_per_call(experiment: Experiment) -> int:
  """Returns how many images one device explains per call.

  Partial batches are padded to it.
  """
  height, width, _ = experiment.source.image_shape
  bound = experiment.attribution.batch_size
  return min(MOST_IMAGES, bound or blocks.default_bound(height, width))


def config_name(estimator: str, granularity: str) -> str:
  """Returns the name of a ranking dataset."""
  return f'ranking_{estimator}_{granularity}'


def units(context: Context, rankings: list[tuple[str, str]]) -> list[Unit]:
  """Returns one unit per source shard, for all rankings asked for at once.

  Args:
    context: the experiment.
    rankings: pairs (estimator, granularity).

  Raises:
    UsageError: unknown estimators, or an oracle on a source without truth.
  """
  source = context.experiment.source
  for estimator, _ in rankings:
    if registry.parse(estimator).base.needs_truth and not source.truth:
      raise errors.UsageError(
        f'Estimator "{estimator}" needs ground truth, which dataset '
        f'{source.name} does not carry; leave it out.'
      )
  made = [
    Unit(
      f'{source.name} rank {split} {index}',
      tuple(
        _target(
          context, e, g, context.shard_done(config_name(e, g), split, index)
        )
        for e, g in rankings
      ),
      functools.partial(_work, context, split, index),
    )
    for split, index in context.all_shards()
  ]
  last = [
    datasets_stage.finalise_unit(
      context,
      _target(context, e, g, context.dataset_done(config_name(e, g))),
      config_name(e, g),
      trainings.ranking_layout(source, g),
    )
    for e, g in rankings
  ]
  return [*made, *last]


def _target(context, estimator, granularity, done) -> Target:
  """The fingerprint names only settings that this estimator depends on."""
  parsed = registry.parse(estimator)
  attribution = context.experiment.attribution
  settings = {
    'estimator': estimator,
    'granularity': granularity,
    'seed': context.experiment.seed,
    'Ranking.cuts': context.experiment.ranking.cuts,
  }
  if parsed.base.counts == 'exact':
    settings['Ranking.ties'] = context.experiment.ranking.ties
  if parsed.base.external:
    settings['scores'] = external.digest(context, parsed.base.name)
  names = [*parsed.base.settings]
  if parsed.base.needs_model:
    names += ['target']
  if parsed.statistic:
    names += ['samples', 'noise']
  if parsed.filter:
    names += [{'blur': 'blur_sigma', 'max': 'max_size'}[parsed.filter]]
  settings |= {f'Attribution.{n}': getattr(attribution, n) for n in names}
  inputs = {'original': context.dataset_done(ORIGINAL)}
  if parsed.base.needs_model:
    inputs['explained model'] = context.model_done()
  return Target(done, 'rank', VERSION, settings, inputs)


def _explainer(context: Context, names: tuple[str, ...]):
  """Returns the compiled function that scores one batch for some names."""

  def make():
    planned = plan.Plan(names, context.experiment.attribution)
    model = None
    if planned.needs_model:
      progress.say(
        f'rank {context.experiment.source.name}: gradient evaluations per '
        f'image: {planned.gradient_evaluations}, forward passes: '
        f'{planned.forward_evaluations}'
      )
      model = context.cached(
        ('explained model',), lambda: model_stage.explained_model(context)
      )
    return explaining.compiled(planned, model, context.devices)

  return context.cached(('explainer', names), make)


def _scores(context, names, batch, keys, faults) -> dict[str, tf.Tensor]:
  """Scores a full batch.

  Estimators that look at the model see what it sees, normalised images;
  controls see the images themselves, float 0..255. What was made elsewhere is
  read from its files.

  Args:
    context: the experiment.
    names: estimators.
    batch: examples, as many as in every batch.
    keys: int32 [B, 2] of the examples.
    faults: gets {name: sentence} of estimators that raise.

  Returns:
    Scores [B, H, W, C] by name, without those of faulty estimators.
  """
  passes = {False: [], True: []}
  scores = {}
  for name in names:
    parsed = registry.parse(name)
    base = parsed.base
    if not base.external:
      passes[base.needs_model].append(name)
      continue
    try:
      found = external.scores(context, base.name, batch['id'])
    except errors.DataError as e:
      faults[name] = str(e)
      continue
    scores[name] = plan.filtered(parsed, found, context.experiment.attribution)
  for some in filter(None, passes.values()):
    scores |= _scores_of_pass(context, tuple(some), batch, keys, faults)
  return scores


def _scores_of_pass(context, names, batch, keys, faults):
  """Scores in one pass, or one by one what cannot be in one.

  Where the pass raises, every base is tried by itself: what raises again is
  faulty, and the others give the same scores as in the pass.
  """
  try:
    return _pass(context, names, batch, keys)
  except errors.RoarError:
    raise  # The model, for example, is damaged.
  except Exception as e:  # A user's estimator or model may raise anything.
    groups = {}
    for name in names:
      groups.setdefault(registry.parse(name).base.name, []).append(name)
    if len(groups) == 1:
      faults |= {n: f'estimator "{n}": {errors.describe(e)}' for n in names}
      return {}
    scores, known = {}, len(faults)
    for some in groups.values():
      scores |= _scores_of_pass(context, tuple(some), batch, keys, faults)
    if len(faults) == known:
      raise  # It takes several, as when memory is short: nobody's fault.
    return scores


def _pass(context, names, batch, keys) -> dict[str, tf.Tensor]:
  """Scores with estimators of which all, or none, look at the model."""
  seed = tf.constant(context.experiment.seed, tf.int32)
  images = tf.cast(batch['image'], tf.float32)
  targets = None
  if context.experiment.attribution.target == 'label':
    targets = tf.cast(batch['label'], tf.int32)
  inputs, baseline = images, None
  if registry.parse(names[0]).base.needs_model:
    normalise = model_stage.scaling(context)
    # Integration paths begin at a black image (paper, section 4.1).
    inputs, baseline = normalise(images), normalise(tf.zeros_like(images[0]))
  return _explainer(context, names)(
    inputs, targets, keys, batch.get('truth'), seed, baseline
  )


def _work(context: Context, split: str, index: int, pending):
  """Writes all unfinished rankings of one shard from one pass.

  Raises:
    PartsFailedError: some estimators are faulty; the others' rankings were
      committed.
  """
  source = context.experiment.source
  wanted = [
    (t.settings['estimator'], t.settings['granularity']) for t, _ in pending
  ]
  names = {estimator for estimator, _ in wanted}
  faults = {}
  size = images_per_call(context.experiment) * context.devices.explaining
  what = f'{source.name} rank {split} {index}'
  with contextlib.ExitStack() as stack:
    bar = stack.enter_context(
      progress.bar(context.records(split, index), what, 'images', inner=True)
    )
    advance = progress.logged(bar, what)
    writers = {
      key: stack.enter_context(
        shards.writing(context.shard_path(config_name(*key), split, index))
      )
      for key in wanted
    }
    for batch in context.batches(ORIGINAL, source.layout, split, index, size):
      _rank(context, batch, size, writers, faults)
      if len(faults) == len(names):
        break
      advance(len(batch['id']))
  for (target, fingerprint), writer in zip(
    pending, writers.values(), strict=True
  ):
    if not writer.abandoned:
      target.commit(fingerprint, contents=writer.contents, batch=size)
  if faults:
    raise errors.PartsFailedError('\n'.join(faults.values()))


def _rank(context: Context, batch, size: int, writers, faults) -> None:
  """Adds the rankings of a batch to their shards.

  Args:
    context: the experiment.
    batch: at most `size` examples.
    size: how many are scored at once.
    writers: {(estimator, granularity): writer}; those of faulty estimators are
      abandoned.
    faults: {estimator: sentence}, to which this adds.
  """
  source = context.experiment.source
  full = {name: _padded(value, size) for name, value in batch.items()}
  keys = randomness.keys_of_ids(full['id'])
  names = dict.fromkeys(e for e, _ in writers if e not in faults)
  scores = _scores(context, names, full, keys, faults)
  for estimator, values in scores.items():
    _check(estimator, values, full['id'], faults)
  keys = randomness.fold(keys, randomness.Purpose.SEED, context.experiment.seed)
  for (estimator, granularity), writer in writers.items():
    if estimator in faults:
      writer.abandoned = True
      continue
    values = scores[estimator]
    if granularity == 'element':  # Files may hold one score per pixel.
      values = tf.broadcast_to(values, full['image'].shape)
    levels = ranking.levels(
      values,
      keys,
      granularity,
      context.experiment.ranking.ties,
      registry.parse(estimator).base.counts,
      context.experiment.ranking.cuts,
    )
    layout = trainings.ranking_layout(source, granularity)
    writer.write(
      layout.serialize(
        {'id': batch['id'], 'levels': levels[: len(batch['id'])]}
      )
    )


def _padded(values: tf.Tensor, size: int) -> tf.Tensor:
  """Repeats the last example until the batch is full: one shape, one trace."""
  rows = np.minimum(np.arange(size), len(values) - 1)
  return tf.gather(values, rows)


def _check(estimator: str, scores, ids, faults) -> None:
  """Adds an estimator to the faults whose scores are not finite."""
  try:
    ranking.check_finite(scores, ids, f'estimator "{estimator}"')
  except ValueError as e:
    faults[estimator] = str(e)
