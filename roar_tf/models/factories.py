"""Models of gin parameter `Training.model`: built, and checked.

A factory is code of the user. Whatever it gets wrong ends in one sentence that
names it.
"""

from __future__ import annotations

from collections.abc import Callable

from roar_tf import errors
from roar_tf.lazy import keras, tf
from roar_tf.models import heads, precision


def build(
  factory: Callable[..., keras.Model],
  image_shape: tuple[int, int, int],
  num_classes: int,
  computes_in: str,
) -> keras.Model:
  """Returns a model that knows its one input and its one output.

  A subclass of `keras.Model` and a Sequential that was never called are built
  for the images.

  Args:
    factory: `(image_shape, num_classes) -> keras.Model`, see `config.Factory`.
    image_shape: (H, W, C).
    num_classes: K.
    computes_in: see `Training.precision`.

  Raises:
    UsageError: the factory raises, or returns no such model.
  """
  shape = tuple(image_shape)
  try:
    with precision.computing_in(computes_in):
      model = factory(shape, num_classes)
      if not isinstance(model, keras.Model):
        raise _refusal(
          factory,
          f'it must return a keras.Model, and returns {type(model).__name__}.',
        )
      model = _with_ends(model, shape)
  except errors.RoarError:
    raise
  except Exception as e:  # Code of a user may raise anything.
    raise _refusal(factory, f'{errors.describe(e)}.') from e
  taken = [
    f'{each.dtype} {tuple(each.shape)}'
    for each in model.inputs
    if len(model.inputs) > 1 or not _takes(each, shape)
  ]
  if taken:
    raise _refusal(
      factory,
      f'the model must take floating point images of shape {(None, *shape)} '
      f'alone, found {" and ".join(taken)}.',
    )
  returned = [tuple(each.shape) for each in model.outputs]
  if returned != [(None, num_classes)]:
    raise _refusal(
      factory,
      f'the model must return logits of shape {(None, num_classes)} for '
      f'{num_classes} classes, found {" and ".join(map(str, returned))}.',
    )
  return model


def check(factory: Callable, model: keras.Model) -> None:
  """Refuses a model of a factory that would train as something else.

  Raises:
    UsageError: it returns no logits; its loss has parts of its own; or it
      trains, or is evaluated, with more than its images and weights.
  """
  images = model.inputs[0]
  try:
    _check_penalties(model)
    zeros = tf.zeros([1, *images.shape[1:]], images.dtype)
    heads.check(model, zeros, activation=False)
  except (ValueError, TypeError, tf.errors.OpError) as e:
    raise _refusal(factory, ' '.join(str(e).split())) from e


def _refusal(factory: Callable, text: str) -> errors.UsageError:
  """Returns the refusal of a factory's model, with the factory's name."""
  scope = getattr(factory, 'scope', '')
  name = getattr(factory, 'name', '') or getattr(factory, '__name__', factory)
  parameter = f'{scope}/Training.model' if scope else 'Training.model'
  return errors.UsageError(f'gin parameter {parameter} = @{name}: {text}')


def _with_ends(model: keras.Model, shape) -> keras.Model:
  """Returns a model that has `inputs` and `outputs`."""
  if isinstance(model, keras.Sequential) and not model.built:
    model.build((None, *shape))
  if hasattr(model, 'inputs') and hasattr(model, 'outputs'):
    return model
  images = keras.Input(shape)
  return keras.Model(images, model(images))


def _takes(images, shape) -> bool:
  """Whether a model's input takes images [B, *shape] of any number type."""
  sides = tuple(images.shape)
  return (
    tf.as_dtype(images.dtype).is_floating
    and len(sides) == len(shape) + 1
    and sides[0] is None
    and all(a in (None, b) for a, b in zip(sides[1:], shape, strict=True))
  )


def _check_penalties(model: keras.Model) -> None:
  """Raises ValueError for parts of the loss, and limits of weights.

  Training has one loss, the paper's, and moves weights by its gradient alone.
  """
  found = [
    f'layer "{layer.name}" has {name.lstrip("_")}'
    for layer in model._flatten_layers()
    for name, value in vars(layer).items()
    if name.endswith(('_regularizer', '_constraint')) and value is not None
  ]
  found += [
    f'variable "{variable.path}" has a {name}'
    for variable in model.trainable_variables
    for name in ('regularizer', 'constraint')
    if getattr(variable, name, None) is not None
  ]

  @tf.function(autograph=False)
  def losses(images):
    _, _, losses = model.stateless_call(
      [tf.convert_to_tensor(v) for v in model.trainable_variables],
      [tf.convert_to_tensor(v) for v in model.non_trainable_variables],
      images,
      training=True,
      return_losses=True,
    )
    return losses

  if not found:
    images = model.inputs[0]
    losses = losses.get_concrete_function(
      tf.TensorSpec([2, *images.shape[1:]], images.dtype)
    )
    if losses.structured_outputs:
      found.append('it calls add_loss')
  if found:
    raise ValueError(
      f'{found[0]}, which training here leaves out; remove it: the loss is '
      'cross entropy, and Training.l2 times half the sum of squared weights.'
    )
