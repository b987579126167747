"""Hyperparameters of a training, set by gin."""

import dataclasses
import math
from collections.abc import Callable

import gin

from roar_tf import errors
from roar_tf.models import precision
from roar_tf.training import augmentation, preprocessing


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Training:
  """How a model is trained; every field but the last changes the result.

  Attributes:
    model: factory `(input_shape, num_classes) -> keras.Model` of logits.
    epochs: length in passes over the train split, a number; steps are rounded
      up. Either this or `train_steps` is set.
    train_steps: length in steps.
    batch_size: examples per step, over all replicas.
    base_learning_rate: peak learning rate per 256 examples of a batch
      (Goyal et al. 2017; the paper's Table 1 gives this number).
    warmup_epochs: linear rise from 0 to the peak.
    drops: pairs (epoch, factor): from that epoch on, peak times factor.
    schedule_epochs: None, or the epochs of a training that `warmup_epochs` and
      `drops` are written for: with another length they move in proportion, so
      that a shortened training keeps its shape. With 1 they are fractions of
      the whole training.
    momentum: Nesterov momentum.
    l2: factor of half the sum of squares of all but batch-norm variables.
    label_smoothing: probability spread evenly over all classes.
    augmentation: none, flip, pad_crop_flip, or resized_crop_flip (the paper's).
    eval_preprocess: what test images go through before they are classified:
      none, or center_crop, the released code's second crop, which smears masks.
    precision: float32; bfloat16, which computes in bfloat16 and keeps variables
      and logits in float32 (Keras' policy mixed_bfloat16); or float64. Keras'
      own settings do not count.
    microbatches: parts of a replica's batch that are computed one after the
      other, their gradients summed, where a batch exceeds memory; batch norm
      sees one part at a time.
    shuffle_shards: how many shards of the train split are read and shuffled
      together; an epoch is one permutation of all images if there are no more.
    checkpoint_seconds: least time between two checkpoints of an unfinished
      training. They are farther apart where saving takes long, so that it is
      2 % of the time at most.
  """

  model: Callable = gin.REQUIRED
  epochs: float | None = None
  train_steps: int | None = None
  batch_size: int = gin.REQUIRED
  base_learning_rate: float = gin.REQUIRED
  warmup_epochs: float = 0.0
  drops: tuple[tuple[float, float], ...] = ()
  schedule_epochs: float | None = None
  momentum: float = 0.9
  l2: float = 1e-4
  label_smoothing: float = 0.1
  augmentation: str = 'none'
  eval_preprocess: str = 'none'
  precision: str = 'float32'
  microbatches: int = 1
  shuffle_shards: int = 16
  checkpoint_seconds: float = 60.0

  def __post_init__(self):
    """Raises UsageError for values that mean nothing."""
    checks = {
      'epochs': lambda v: v is None or 0 < v < math.inf,
      'train_steps': lambda v: v is None or type(v) is int and v > 0,
      'schedule_epochs': lambda v: v is None or 0 < v < math.inf,
      'batch_size': lambda v: isinstance(v, int) and v > 0,
      'base_learning_rate': lambda v: v > 0,
      'warmup_epochs': lambda v: 0 <= v < math.inf,
      'momentum': lambda v: 0 <= v < 1,
      'l2': lambda v: v >= 0,
      'label_smoothing': lambda v: 0 <= v < 1,
      'augmentation': lambda v: v in augmentation.AUGMENTATIONS,
      'eval_preprocess': lambda v: v in preprocessing.EVAL_PREPROCESS,
      'precision': lambda v: v in precision.PRECISIONS,
      'microbatches': lambda v: type(v) is int and v > 0,
      'shuffle_shards': lambda v: type(v) is int and v > 0,
      'checkpoint_seconds': lambda v: 0 <= v < math.inf,
      'drops': lambda v: (
        [e for e, factor in v if factor >= 0 and 0 <= e < math.inf]
        == sorted(e for e, _ in v)
      ),
    }
    for name, check in checks.items():
      value = getattr(self, name)
      try:
        fits = check(value)
      except (TypeError, ValueError):
        fits = False
      if not fits:
        raise errors.UsageError(
          f'gin parameter Training.{name} cannot be {value!r}; '
          f'`roar_tf params Training.{name}` says what it may be.'
        )
    if (self.epochs is None) == (self.train_steps is None):
      raise errors.UsageError(
        'Set one of the gin parameters Training.epochs and '
        f'Training.train_steps, and the other to None; found {self.epochs} and '
        f'{self.train_steps}.'
      )

  def settings(self, factory) -> dict:
    """Returns what a fingerprint records, by the names of the gin parameters.

    Args:
      factory: the `config.Factory` that `model` was frozen to.
    """
    fields = dataclasses.asdict(self)
    del fields['checkpoint_seconds']
    training = {f'Training.{k}': v for k, v in fields.items()}
    return {**training, **self.settings_of_model(factory)}

  def settings_of_model(self, factory) -> dict:
    """Returns those of `settings` that decide what a training starts from."""
    return {
      'Training.precision': self.precision,
      'Training.model': factory.name,
      **{f'{factory.name}.{k}': v for k, v in factory.arguments.items()},
      **factory.code,
    }

  def steps(self, train_images: int) -> int:
    """Returns the number of steps for a train split of that size."""
    if self.train_steps is not None:
      return self.train_steps
    return max(1, -(-round(self.epochs * train_images) // self.batch_size))
