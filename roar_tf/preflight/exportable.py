"""What is exported: the programs of experiments, and small ones to compare."""

import dataclasses
import functools
from collections.abc import Iterator

from roar_tf.estimators import Plan, Settings
from roar_tf.models import precision as precisions
from roar_tf.models import resnet
from roar_tf.preflight import attribution, functions, training
from roar_tf.preflight.device_function import DeviceFunction, WithSpecs
from roar_tf.preflight.subject import PAPER, Subject
from roar_tf.training.settings import Training

STANDARD = (('imagenet2012', 32), ('fashion_mnist', 1))
"""Sources, and chips that share a batch, if no experiment is named: ResNet-50
at 224 x 224, 128 images per chip and step, and the small ResNet."""

GROUPS = ('training', 'evaluation', 'attribution')
"""Of `preflight.GROUPS`; the others need no model, and hardly any time."""

TOLERANCES = {'float64': 1e-9, 'float32': 0.02}
"""How far results may be from TensorFlow's, over their largest element.

In float64 two right programs agree to the last digits. In float32 a ReLU whose
input is nearly 0 may open in one and stay closed in the other, which changes
single elements: up to 2 % of the maximum (docs/guides/exported_programs.md)."""


@dataclasses.dataclass(frozen=True)
class Exportable:
  """A function to be exported.

  Attributes:
    function: it, at its batch.
    source: the dataset; empty if it is for none.
    precision: what its model computes in.
    classes: of its model.
    work: images, or gradients, per call.
    chips: how many share the batch of the experiment.
    tolerance: None where nothing is compared.
  """

  function: DeviceFunction
  source: str
  precision: str
  classes: int
  work: int
  chips: int = 1
  tolerance: float | None = None

  @property
  def name(self) -> str:
    """What its program is called."""
    parts = (self.source, self.function.name, self.precision)
    return ', '.join(part for part in parts if part)

  @property
  def unit(self) -> str:
    """What a call computes."""
    return 'gradients' if self.function.group == 'attribution' else 'images'


def of_experiment(
  subject: Subject, groups=GROUPS, chips: int = 1
) -> Iterator[Exportable]:
  """Yields what one of some chips runs of an experiment."""
  experiment, plan = subject.experiment, subject.plan
  for function in functions.of(subject, groups, chips):
    explaining = function.group == 'attribution'
    explained = explaining or 'explained' in function.name
    role = experiment.explained if explained else experiment.retrained
    whole = explaining and function.loops
    yield Exportable(
      function,
      experiment.source.name,
      'float32' if explaining and experiment.given else role.precision,
      experiment.source.num_classes,
      function.batch * (plan.gradient_evaluations if whole else 1),
      chips,
    )


def comparisons() -> Iterator[Exportable]:
  """Yields both steps of both ResNets, small enough to be compared anywhere.

  All 15 estimators once: their programs take long to lower and compile. In
  float32 the deep one has more images: batch norm over the few places that are
  left of a small one would magnify every rounding.
  """
  small, deep = (16, 16, 3), (32, 32, 3)
  for precision, names, images in (
    ('float64', PAPER, 4),
    ('float32', ('var_gb', 'ig'), 16),
  ):
    yield from _compared(
      'small ResNet', resnet.small_resnet, small, 4, names, precision
    )
    yield from _compared(
      'ResNet-50', resnet.resnet50, deep, images, ('gb',), precision
    )


CLASSES = 10
_TRAIN_IMAGES = 1000


def _compared(name, factory, shape, batch, names, precision):
  """Yields attribution by some estimators, and the training step."""
  settings = Settings(samples=2, steps=3)

  @functools.cache
  def model():
    with precisions.computing_in(precision):
      return factory(shape, CLASSES)

  def explaining(batch: int) -> WithSpecs:
    return attribution.attribution(model(), names, settings, shape, batch)

  def stepping(batch: int) -> WithSpecs:
    how = Training(
      model=factory,
      epochs=10,
      batch_size=batch,
      base_learning_rate=0.1,
      precision=precision,
      # The latter interpolates, in float32 whatever the model computes in.
      augmentation='pad_crop_flip'
      if precision == 'float64'
      else 'resized_crop_flip',
    )
    return training.training_step(model(), how, shape, _TRAIN_IMAGES, batch)

  images = 2  # Ensembles multiply them.
  evaluations = images * Plan(names, settings).gradient_evaluations
  for function, work in (
    (
      DeviceFunction(
        f'{name}, attribution', 'attribution', images, explaining, loops=True
      ),
      evaluations,
    ),
    (
      DeviceFunction(f'{name}, training step', 'training', batch, stepping),
      batch,
    ),
  ):
    yield Exportable(
      function,
      '',
      precision,
      CLASSES,
      work,
      tolerance=TOLERANCES[precision],
    )
