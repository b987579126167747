"""Initial weights under a seed, without building a model for each of them.

Building a Keras model takes longer than a small training has to spare. What
differs between two builds under two seeds is what Keras' initialisers and
dropouts draw: each takes its own seed, when it is made, from Python's `random`.
So after one build it is known which of these draws belongs to which variable,
and another seed needs the initialisers only. A second build under another seed
must prove that, bit for bit. Factories for which it does not hold, because they
draw otherwise, are built for every seed.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import threading
from collections.abc import Callable

import numpy as np

from roar_tf.lazy import keras, tf

Values = tuple[list['tf.Tensor'], list['tf.Tensor']]
"""Values of the trainable and of the other variables of a model."""

MOST_DRAWS = 10_000
"""Draws of a build, beyond which it is taken for one that draws otherwise."""


class InitialWeights:
  """The initial values of the variables of what a factory builds."""

  def __init__(self, build: Callable[[], keras.Model]):
    """Builds nothing yet.

    Args:
      build: returns a new model.
    """
    self._build = build
    self._lock = threading.Lock()
    self._recipe: _Recipe | None = None
    self._is_proven = self._is_refuted = False

  def __call__(self, seed: int) -> Values:
    """Returns the values of a model that is built under a seed.

    Args:
      seed: of Python's `random` meanwhile.
    """
    with self._lock:
      if self._is_proven:
        return self._recipe.values(seed)
      model, after = _built(self._build, seed)
      values = tuple(
        list(map(tf.convert_to_tensor, variables))
        for variables in (
          model.trainable_variables,
          model.non_trainable_variables,
        )
      )
      if not self._is_refuted:
        self._learn(model, values, seed, after)
      return values

  def _learn(self, model, values: Values, seed: int, after) -> None:
    """Finds a recipe in the first build, and tries it on the next."""
    if self._recipe is None:
      self._recipe = _recipe(model, values, seed, after)
      self._is_refuted = self._recipe is None
    elif seed != self._recipe.seed:
      self._is_proven = self._recipe.gives(values, seed, after)
      self._is_refuted = not self._is_proven


def _built(build: Callable[[], keras.Model], seed: int):
  """Returns a model built under a seed, and Python's `random` after that."""
  # `keras.utils.set_random_seed` would also make TensorFlow drop every compiled
  # function: 0.25 s a run.
  before = random.getstate()
  random.seed(seed)
  try:
    return build(), random.getstate()
  finally:
    random.setstate(before)


def _draw(generator: random.Random) -> int:
  """Returns the seed that Keras gives what is made without one."""
  return generator.randint(1, int(1e9))


def _draws(seed: int, after) -> list[int]:
  """Returns what Keras drew between a seed and a state of `random`.

  Empty if that state is reached otherwise, or if a draw came twice.
  """
  generator, draws = random.Random(seed), []
  while generator.getstate() != after:
    if len(draws) == MOST_DRAWS:
      return []
    draws.append(_draw(generator))
  return draws if len(set(draws)) == len(draws) else []


@dataclasses.dataclass(frozen=True)
class _Recipe:
  """How the values of variables follow from Keras' draws.

  Attributes:
    seed: it was found under this one.
    count: how many draws there are.
    makers: functions from all draws to a value, for the trainable and for the
      other variables.
  """

  seed: int
  count: int
  makers: tuple[list[Callable], list[Callable]]

  def values(self, seed: int) -> Values:
    """Returns the values under a seed."""
    generator = random.Random(seed)
    draws = [_draw(generator) for _ in range(self.count)]
    return tuple([make(draws) for make in part] for part in self.makers)

  def gives(self, values: Values, seed: int, after) -> bool:
    """Whether a model built under a seed has the values of this recipe."""
    if len(_draws(seed, after)) != self.count:
      return False
    own = self.values(seed)
    return all(
      len(one) == len(other) and all(map(_same, one, other))
      for one, other in zip(own, values, strict=True)
    )


def _recipe(
  model: keras.Model, values: Values, seed: int, after
) -> _Recipe | None:
  """Returns how a model that was just built came to its values.

  None unless every value is that of an initialiser of its layer, and every draw
  that of one of them or of a dropout: another draw could decide anything.
  """
  draws = _draws(seed, after)
  places = {draw: place for place, draw in enumerate(draws)}
  candidates, used = {}, set()
  for layer in model._flatten_layers():
    own = [
      value
      for value in vars(layer).values()
      if isinstance(value, keras.initializers.Initializer)
    ]
    if not all(type(each).__module__.startswith('keras.') for each in own):
      return None
    used |= {places.get(getattr(each, 'seed', None)) for each in own}
    for variable in layer.variables:
      candidates.setdefault(id(variable), []).extend(own)
  makers = ([], [])
  for part, variables, found in zip(
    makers,
    (model.trainable_variables, model.non_trainable_variables),
    values,
    strict=True,
  ):
    for variable, value in zip(variables, found, strict=True):
      options = [
        _initialised(initialiser, variable, places)
        for initialiser in candidates.get(id(variable), [])
      ]
      if (place := _place_of_state(value, places)) is not None:
        used.add(place)
        options = [_state(place, value.dtype)]
      part.append(next((o for o in options if _gives(o, draws, value)), None))
  complete = set(range(len(draws))) <= used
  if draws and complete and all(None not in part for part in makers):
    return _Recipe(seed, len(draws), makers)
  return None


def _initialised(initialiser, variable, places) -> Callable:
  """Returns the function from draws to what an initialiser gives a variable."""
  shape, dtype = tuple(variable.shape), variable.dtype
  place = places.get(getattr(initialiser, 'seed', None))

  def make(draws):
    own = initialiser
    if place is not None:
      own = copy.copy(initialiser)
      own.seed = draws[place]
    return tf.convert_to_tensor(own(shape, dtype=dtype))

  return make


def _place_of_state(value: tf.Tensor, places) -> int | None:
  """Returns which draw a variable holds as the first state of a dropout."""
  if value.shape != [2] or not value.dtype.is_integer or int(value[1]):
    return None
  return places.get(int(value[0]))


def _state(place: int, dtype) -> Callable:
  """Returns the function from draws to the first state of a dropout."""
  return lambda draws: tf.constant([draws[place], 0], dtype)


def _gives(make: Callable, draws: list[int], value: tf.Tensor) -> bool:
  """Whether a maker gives a value; one may refuse the shape of another's."""
  try:
    return _same(make(draws), value)
  except ValueError:
    return False


def _same(one, other) -> bool:
  """Whether two tensors are equal, bit for bit."""
  one, other = np.asarray(one), np.asarray(other)
  return (one.dtype, one.shape, one.tobytes()) == (
    other.dtype,
    other.shape,
    other.tobytes(),
  )
