"""The experiment that a preflight is about, with its models."""

import dataclasses
import functools

import keras

from roar_tf.estimators import Plan, eager, registry
from roar_tf.models import factories
from roar_tf.study.experiment import Experiment
from roar_tf.training.settings import Training

ROLES = ('retrained', 'explained')
PAPER = tuple(
  prefix + base
  for base in ('grad', 'gb', 'ig')
  for prefix in ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
)
"""The paper's 15 gradient estimators, 416 gradient evaluations per image."""


class Subject:
  """An experiment, its models, which are built once, and its estimators.

  Attributes:
    experiment: configuration.
    shape: (H, W, C) of its images.
    plan: of all estimators that need the explained model, the paper's where
      there is no study; None if there are none.
  """

  def __init__(self, experiment: Experiment, precision: str | None = None):
    """Takes an experiment, and what its trainings shall compute in instead.

    Raises:
      UsageError: an estimator is called outside of graphs only.
    """
    if precision:
      trainings = {
        role: dataclasses.replace(
          getattr(experiment, role), precision=precision
        )
        for role in ROLES
      }
      experiment = dataclasses.replace(experiment, **trainings)
    self.experiment, self.shape = experiment, experiment.source.image_shape
    study = experiment.study
    names = map(_explained, study.estimators if study else PAPER)
    plan = Plan(filter(None, names), experiment.attribution)
    eager.refuse(plan.eager, 'a TPU', 'leave it out of the study')
    self.plan = plan if plan.names else None

  @functools.cached_property
  def trained(self) -> dict[str, tuple[keras.Model, Training]]:
    """What is trained, by role; the explained model only if it differs."""
    experiment = self.experiment
    roles = {
      role: (getattr(experiment, role), getattr(experiment, f'{role}_model'))
      for role in ROLES
    }
    retrained, explained = (
      (training, factory.function, factory.arguments)
      for training, factory in roles.values()
    )
    if experiment.given or explained == retrained:
      del roles['explained']
    trained = {}
    for role, (training, factory) in roles.items():
      classes = experiment.source.num_classes
      model = factories.build(factory, self.shape, classes, training.precision)
      trained[role] = model, training
    return trained

  @functools.cached_property
  def explained(self) -> keras.Model:
    """The explained model, trained here or given; its weights do not count."""
    given, classes = self.experiment.given, self.experiment.source.num_classes
    if given:
      return given.load(self.shape, classes, with_weights=False)
    return self.trained.get('explained', self.trained['retrained'])[0]

  @property
  def images_per_call(self) -> int:
    """Images that one device explains per call."""
    from roar_tf.study import level_maps

    return level_maps.images_per_call(self.experiment)


def _explained(name: str) -> str:
  """Returns the estimator that asks a model for what a name means, or ''.

  With its initial weights a model is the same program. A name that no estimator
  has stands for scores that were made elsewhere, which no device computes here.
  """
  estimator = registry.find(name)
  if estimator and estimator.derivation:
    return _explained(estimator.derivation.ranking)
  if estimator and estimator.base.needs_model:
    return estimator.trained or name
  return ''
