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
"""Images per call of the attribution step, at most."""


def images_per_call(experiment: Experiment) -> int:
  """Returns the images per call; partial batches are padded to it."""
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
    settings['scores'] = external.digest(context, estimator)
  names = [*parsed.base.settings]
  if parsed.base.needs_model:
    names += ['target']
  if parsed.statistic:
    names += ['samples', 'noise']
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
    return plan.compile_plan(planned, model)

  return context.cached(('explainer', names), make)


def _scores(context, names, batch, keys) -> dict[str, tf.Tensor]:
  """Scores a full batch.

  Estimators that look at the model see what it sees, normalised images;
  controls see the images themselves, float 0..255. What was made elsewhere is
  read from its files.
  """
  seed = tf.constant(context.experiment.seed, tf.int32)
  images = tf.cast(batch['image'], tf.float32)
  targets = None
  if context.experiment.attribution.target == 'label':
    targets = tf.cast(batch['label'], tf.int32)
  scores = {
    n: external.scores(context, n, batch['id'])
    for n in names
    if registry.parse(n).base.external
  }
  names = [n for n in names if n not in scores]
  for needs_model in (False, True):
    some = tuple(
      n for n in names if registry.parse(n).base.needs_model == needs_model
    )
    if not some:
      continue
    inputs, baseline = images, None
    if needs_model:
      normalise = trainings.trainer(context, 'explained').normalise
      # Integration paths begin at a black image (paper, section 4.1).
      inputs, baseline = normalise(images), normalise(tf.zeros_like(images[0]))
    scores |= _explainer(context, some)(
      inputs, targets, keys, batch.get('truth'), seed, baseline
    )
  return scores


def _work(context: Context, split: str, index: int, pending):
  source = context.experiment.source
  wanted = [
    (t.settings['estimator'], t.settings['granularity']) for t, _ in pending
  ]
  names = tuple(dict.fromkeys(e for e, _ in wanted))
  size = images_per_call(context.experiment)
  start, stop = source.shard_bounds(split)[index]
  what = f'{source.name} rank {split} {index}'
  with contextlib.ExitStack() as stack:
    bar = stack.enter_context(
      progress.bar(stop - start, what, 'images', inner=True)
    )
    advance = progress.logged(bar, what)
    writers = {
      key: stack.enter_context(
        shards.writing(context.shard_path(config_name(*key), split, index))
      )
      for key in wanted
    }
    for batch in context.batches(ORIGINAL, source.layout, split, index, size):
      count = len(batch['id'])
      full = {name: _padded(value, size) for name, value in batch.items()}
      keys = randomness.keys_of_ids(full['id'])
      scores = _scores(context, names, full, keys)
      keys = randomness.fold(
        keys, randomness.Purpose.SEED, context.experiment.seed
      )
      for estimator, granularity in wanted:
        values = scores[estimator]
        _check(estimator, values, full['id'])
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
        writers[estimator, granularity].write(
          layout.serialize({'id': batch['id'], 'levels': levels[:count]})
        )
      advance(count)
  for (target, fingerprint), key in zip(pending, wanted, strict=True):
    target.commit(fingerprint, contents=writers[key].contents, batch=size)


def _padded(values: tf.Tensor, size: int) -> tf.Tensor:
  """Repeats the last example until the batch is full: one shape, one trace."""
  rows = np.minimum(np.arange(size), len(values) - 1)
  return tf.gather(values, rows)


def _check(estimator: str, scores, ids) -> None:
  try:
    ranking.check_finite(scores, ids, f'estimator "{estimator}"')
  except ValueError as e:
    raise errors.RoarError(str(e)) from e
