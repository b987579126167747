"""What a project's experiment runs on a device, as functions to be compiled.

Every function here takes all that it uses, variables too, as arguments, and
has static shapes; the model's own variables are neither read nor written.
"""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from roar_tf import config, fills, masking, randomness, ranking
from roar_tf.estimators import Plan, blocks, gradient, registry
from roar_tf.estimators.settings import Settings
from roar_tf.models import precision, stateless
from roar_tf.study import rank_stage
from roar_tf.study.experiment import Experiment
from roar_tf.training import augmentation, loop, preprocessing
from roar_tf.training import step as pure
from roar_tf.training.settings import Training

PAPER = tuple(
  prefix + base
  for base in ('grad', 'gb', 'ig')
  for prefix in ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
)
"""The paper's 15 gradient estimators, 416 gradient evaluations per image."""

Made = tuple[Callable, tuple]
"""A function and the specs of its arguments."""


@dataclasses.dataclass(frozen=True)
class DeviceFunction:
  """One function that runs on a device.

  Attributes:
    name: for the report.
    kind: of `preflight.KINDS`.
    batch: images, or gradient evaluations, per call.
    make: from a batch to the function.
    loops: whether it holds loops, whose bodies the compiler's cost analysis
      counts once: operations and bytes then say nothing.
    scales: whether its largest batch is of interest.
    parameters: numbers in the model's trainable variables.
    fixed: bytes of its arguments that do not grow with the batch.
    unit: what the batch counts.
  """

  name: str
  kind: str
  batch: int
  make: Callable[[int], Made]
  loops: bool = False
  scales: bool = False
  parameters: int = 0
  fixed: int = 0
  unit: str = 'images'


def precision_of(experiment: Experiment) -> str:
  """Returns what the experiment's trainings compute in."""
  return experiment.retrained.precision


def specs_of(model: keras.Model) -> tuple[list, list]:
  """Returns the specs of a model's trainable and other variables."""
  return tuple(
    [tf.TensorSpec(v.shape, v.dtype) for v in variables]
    for variables in (model.trainable_variables, model.non_trainable_variables)
  )


def _int32(*shape) -> tf.TensorSpec:
  return tf.TensorSpec(shape, tf.int32)


def _float32(*shape) -> tf.TensorSpec:
  return tf.TensorSpec(shape, tf.float32)


def _state(model) -> dict:
  trainable, moving = specs_of(model)
  return {
    'trainable': trainable,
    'moving': moving,
    'velocity': trainable,
    'step': tf.TensorSpec([], tf.int64),
    'seed': _int32(),
  }


def _bytes(specs) -> int:
  return sum(
    spec.shape.num_elements() * spec.dtype.size
    for spec in tf.nest.flatten(specs)
  )


def training_step(
  model: keras.Model,
  training: Training,
  shape,
  train_images: int,
  batch: int,
  replicas: int = 1,
) -> Made:
  """Returns one training step of one replica: all that a device does in it.

  Augmentation, normalisation, learning rate, and the pure step. What replicas
  tell each other about gradients is not in it.

  Args:
    model: the architecture.
    training: hyperparameters.
    shape: (H, W, C).
    train_images: size of the train split.
    batch: images of one replica.
    replicas: how many share a batch of the training.
  """
  training = dataclasses.replace(training, batch_size=batch * replicas)
  channels = shape[-1]
  # Its mean and deviation are constants of the program; these stand for any.
  step = pure.Step(
    model, training, train_images, (127.0,) * channels, (64.0,) * channels,
    replicas,
  )  # fmt: skip
  return step, (
    _state(model),
    {
      'image': tf.TensorSpec([batch, *shape], tf.uint8),
      'label': _int32(batch),
      'key': _int32(batch, 2),
      'epoch': _int32(batch),
    },
  )


def evaluation(
  model: keras.Model, training: Training, shape, batch: int
) -> Made:
  """Returns the classification of a batch of test images."""
  channels = shape[-1]
  step = pure.Step(model, training, 1, (127.0,) * channels, (64.0,) * channels)
  state = {name: _state(model)[name] for name in ('trainable', 'moving')}
  return step.predict, (state, tf.TensorSpec([batch, *shape], tf.uint8))


def gradient_evaluations(model: keras.Model, shape, batch: int) -> Made:
  """Returns one batch of gradient evaluations, as the plan makes them.

  The work inside the plan's loops, by which its cost is told.
  """

  def function(trainable, others, images, targets):
    with (
      stateless.with_variables(model, trainable, others),
      gradient.prepared(model),
    ):
      values, _ = gradient.gradients(model, images, targets)
    return values['gradient']

  return function, (*specs_of(model), _float32(batch, *shape), _int32(batch))


def attribution(
  model: keras.Model | None,
  names: Sequence[str],
  settings: Settings,
  shape,
  batch: int,
) -> Made:
  """Returns the plan of some estimators on a batch of images.

  Args:
    model: None if no estimator needs one.
    names: of the estimators.
    settings: of the estimators.
    shape: (H, W, C).
    batch: images per call.
  """
  plan = Plan(names, settings)
  specs = {
    'images': _float32(batch, *shape),
    'keys': _int32(batch, 2),
    'seed': _int32(),
  }
  if plan.needs_baseline:
    specs['baseline'] = _float32(*shape)
  if plan.needs_truth:
    specs['truth'] = tf.TensorSpec([batch, *shape[:2], 1], tf.uint8)
  if plan.needs_model and settings.target == 'label':
    specs['targets'] = _int32(batch)

  def scores(given):
    keys = randomness.fold(
      given['keys'], randomness.Purpose.SEED, given['seed']
    )
    return plan.scores(
      model,
      given['images'],
      given.get('targets'),
      keys,
      given.get('truth'),
      given.get('baseline'),
    )

  def function(trainable, others, given):
    with stateless.with_variables(model, trainable, others):
      return scores(given)

  if not plan.needs_model:
    return scores, (specs,)
  return function, (*specs_of(model), specs)


class Functions:
  """The device functions of one experiment.

  Models are built once; every function can be made for any batch.

  Attributes:
    experiment: configuration.
    precision: of `PRECISIONS`.
    plan: of all estimators that need the model.
  """

  def __init__(self, experiment: Experiment, precision: str):
    self.experiment = experiment
    self.precision = precision
    self._models = {}
    study = experiment.study
    names = study.estimators if study else PAPER
    # Scores that were made elsewhere are computed on no device.
    names = [n for n in names if not registry.parse(n).base.external]
    needing = [n for n in names if registry.parse(n).base.needs_model]
    self.plan = Plan(needing, experiment.attribution) if needing else None

  @property
  def rows(self) -> int:
    """Gradient evaluations per call of the model."""
    height, width, _ = self.experiment.source.image_shape
    bound = self.experiment.attribution.batch_size
    return bound or blocks.default_bound(height, width)

  def of(self, kinds: Sequence[str], replicas: int) -> list[DeviceFunction]:
    """Returns the functions of some kinds, for one of so many replicas."""
    made = []
    if 'training' in kinds:
      made += self._trainings(replicas)
    if 'evaluation' in kinds:
      made += self._evaluations(replicas)
    if 'attribution' in kinds and self.plan:
      made += self._attributions()
    if 'others' in kinds:
      made += self._others()
    return made

  def _model(self, role: str) -> keras.Model:
    experiment = self.experiment
    factory = {
      'explained': experiment.explained_model,
      'retrained': experiment.retrained_model,
    }[role]
    key = self._key(factory)
    if key not in self._models:
      source = experiment.source
      with precision.computing_in(self.precision):
        self._models[key] = factory(source.image_shape, source.num_classes)
    return self._models[key]

  @staticmethod
  def _key(factory: config.Factory) -> tuple:
    return factory.name, repr(sorted(factory.arguments.items()))

  def _roles(self) -> dict[str, Training]:
    """Returns the trainings that differ; `explained` only if it does."""
    experiment = self.experiment
    roles = {'retrained': experiment.retrained}
    same = experiment.explained == experiment.retrained and self._key(
      experiment.explained_model
    ) == self._key(experiment.retrained_model)
    return roles if same else {**roles, 'explained': experiment.explained}

  def _trainings(self, replicas: int) -> list[DeviceFunction]:
    source = self.experiment.source
    made = []
    for role, training in self._roles().items():
      model = self._model(role)
      made.append(
        DeviceFunction(
          f'training step ({role})',
          'training',
          -(-training.batch_size // replicas),
          lambda batch, model=model, training=training: training_step(
            model,
            training,
            source.image_shape,
            source.count('train'),
            batch,
            replicas,
          ),
          scales=True,
          parameters=_parameters(model),
          fixed=_bytes(_state(model)),
        )
      )
    return made

  def _evaluations(self, replicas: int) -> list[DeviceFunction]:
    shape = self.experiment.source.image_shape
    return [
      DeviceFunction(
        f'evaluation ({role})',
        'evaluation',
        loop.evaluation_batch(training, replicas),
        lambda batch, role=role, training=training: evaluation(
          self._model(role), training, shape, batch
        ),
        parameters=_parameters(self._model(role)),
        fixed=_bytes(specs_of(self._model(role))),
      )
      for role, training in self._roles().items()
    ]

  def _attributions(self) -> list[DeviceFunction]:
    experiment = self.experiment
    shape, model = experiment.source.image_shape, self._model('explained')
    about_model = {
      'parameters': _parameters(model),
      'fixed': _bytes(specs_of(model)),
    }
    return [
      DeviceFunction(
        'gradient evaluations',
        'attribution',
        self.rows,
        lambda batch: gradient_evaluations(model, shape, batch),
        scales=True,
        unit='gradients',
        **about_model,
      ),
      DeviceFunction(
        f'attribution (estimators: {len(self.plan.names)})',
        'attribution',
        rank_stage.images_per_call(experiment),
        lambda batch: attribution(
          model, self.plan.names, experiment.attribution, shape, batch
        ),
        loops=True,
        **about_model,
      ),
    ]

  def _others(self) -> list[DeviceFunction]:
    """Returns everything without a model, whatever the experiment uses."""
    shape = self.experiment.source.image_shape
    batch = rank_stage.images_per_call(self.experiment)
    made = {
      **_controls(self.experiment),
      **_rankings(shape),
      **_masks(shape),
      **_draws(shape),
      **_preparations(shape),
    }
    return [
      DeviceFunction(name, 'others', batch, make, loops=True)
      for name, make in made.items()
    ]


def _parameters(model) -> int:
  return sum(v.shape.num_elements() for v in model.trainable_variables)


def _controls(experiment: Experiment) -> dict[str, Callable[[int], Made]]:
  """Returns all registered estimators that need no model."""
  made = {}
  for name in registry.registered():
    base = registry.parse(name).base
    if base.needs_model or base.external:
      continue
    forms = {'': experiment.attribution}
    if 'sobel' in base.settings:
      forms = {
        f' ({form})': dataclasses.replace(experiment.attribution, sobel=form)
        for form in ('magnitude', 'released')
      }
    for suffix, settings in forms.items():
      made[name + suffix] = lambda batch, name=name, settings=settings: (
        attribution(
          None, [name], settings, experiment.source.image_shape, batch
        )
      )
  return made


def _rankings(shape) -> dict[str, Callable[[int], Made]]:
  """Returns the rankings of every kind; they sort."""

  def make(granularity, ties, counts, cuts):
    def function(scores, keys):
      return ranking.levels(scores, keys, granularity, ties, counts, cuts)

    return lambda batch: (
      function,
      (_float32(batch, *shape), _int32(batch, 2)),
    )

  kinds = [
    *((ties, 'exact', None) for ties in ranking.TIES),
    ('random', 'bernoulli', None),
    ('random', 'exact', (10, 30, 50, 70, 90)),
  ]
  return {
    f'ranking ({granularity}, ties {ties}, {counts}{", cuts" * bool(cuts)})': (
      make(granularity, ties, counts, cuts)
    )
    for granularity in ranking.GRANULARITIES
    for ties, counts, cuts in kinds
  }


def _masks(shape) -> dict[str, Callable[[int], Made]]:
  """Returns masking in every mode, by every fill that suits the images."""

  def make(mode, fill):
    # The mean of a source is a constant of the program.
    values = fills.named(fill, [127.0] * shape[-1])

    def function(images, levels, threshold, keys):
      return masking.mask(
        images, levels, threshold=threshold, mode=mode, fill=values, keys=keys
      )

    return lambda batch: (
      function,
      (
        tf.TensorSpec([batch, *shape], tf.uint8),
        tf.TensorSpec([batch, *shape[:2], 1], tf.uint8),
        _int32(),
        _int32(batch, 2),
      ),
    )

  return {
    f'masking ({mode}, {fill})': make(mode, fill)
    for mode in masking.MODES
    for fill in fills.NAMES
    if masking.fits(fill, shape[-1])
  }


def _draws(shape) -> dict[str, Callable[[int], Made]]:
  """Returns the random numbers of every kind."""
  draws = {
    'Gaussian noise': lambda seeds: randomness.normal(seeds, shape, count=2),
    'uniform numbers': lambda seeds: randomness.uniform(seeds, shape),
    'random integers': lambda seeds: randomness.integers(seeds, shape),
    'hashed numbers': lambda seeds: randomness.hashed_uniform(seeds, 8),
  }
  return {
    name: lambda batch, draw=draw: (draw, (_int32(batch, 2),))
    for name, draw in draws.items()
  }


def _preparations(shape) -> dict[str, Callable[[int], Made]]:
  """Returns what images go through before a model sees them."""
  made = {}
  for name, augment in augmentation.AUGMENTATIONS.items():
    made[f'augmentation ({name})'] = lambda batch, augment=augment: (
      augment,
      (
        tf.TensorSpec([batch, *shape], tf.uint8),
        _float32(batch, augment.draws),
      ),
    )
  for name, preprocess in preprocessing.EVAL_PREPROCESS.items():
    made[f'eval_preprocess ({name})'] = lambda batch, preprocess=preprocess: (
      preprocess,
      (tf.TensorSpec([batch, *shape], tf.uint8),),
    )
  return made
