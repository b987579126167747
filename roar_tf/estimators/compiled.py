"""Compiled plans, and those of a model, kept on it for calls of `explain`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from roar_tf import randomness
from roar_tf.estimators import blocks, eager
from roar_tf.estimators.plan import Plan
from roar_tf.estimators.structure import CACHE, Structure
from roar_tf.lazy import tf, unwarned

_UNKNOWN_TO_XLA = re.compile(
  r'unsupported operations when trying to compile graph.*?: (\w+)', re.DOTALL
)
WORTH_PADDING = 2**24
"""Gradients of padding, times pixels, that cost less than to compile.

On two cores about what compiling a ResNet-50 takes, some seconds: 334 gradients
at 224 x 224 and 16,384 at 32 x 32.
"""


def compile_plan(plan: Plan, model):
  """Returns a `tf.function` of `plan.scores` for one model.

  Its arguments are (images, targets or None, keys, truth or None, seed,
  baseline or None). Of a plan with eager estimators it is a function that calls
  these outside of graphs.
  """
  if plan.eager:
    return _with_eager(plan, model)

  # No AutoGraph: errors of estimators and models reach the user as they are.
  @tf.function(autograph=False, jit_compile=plan.is_compiled_by_xla or None)
  def explain(images, targets, keys, truth, seed, baseline=None):
    keys = randomness.fold(keys, randomness.Purpose.SEED, seed)
    return plan.scores(model, images, targets, keys, truth, baseline)

  return unwarned(explain)


def _with_eager(plan: Plan, model):
  """Returns what `compile_plan` does, of a plan with eager estimators."""
  parts = [
    eager.running(part, model) if part.eager else compile_plan(part, model)
    for part in plan.parts
  ]

  def explain(*arguments):
    scores = {}
    for part in parts:
      scores |= part(*arguments)
    return {name: scores[name] for name in plan.names}

  return explain


def inside_of_graph(plan: Plan, model):
  """Returns what `compile_plan` does, to be called while a graph is traced.

  It becomes a part of that graph, or one operation of it that XLA compiles.

  Raises:
    UsageError: an estimator is called outside of graphs only.
  """
  eager.refuse(plan.eager, 'a tf.function', 'call explain outside of it')
  function = compile_plan(plan, model)
  return function if plan.is_compiled_by_xla else function.python_function


@contextlib.contextmanager
def xla_told() -> Iterator[None]:
  """Raises ValueError, in one sentence, where XLA cannot compile a plan."""
  try:
    yield
  except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as e:
    if not (found := _UNKNOWN_TO_XLA.search(str(e))):
      raise
    raise ValueError(
      f'XLA cannot compile {found[1]}, which the model or an estimator has: '
      'leave jit_compile out (Attribution.jit_compile in gin files).'
    ) from e


class Plans:
  """Compiled plans of a model, as long as its structure is the same.

  Attributes:
    classes: number of classes of the model, by shape and dtype of images.
  """

  def __init__(self, structure: Structure | None):
    self.structure = structure
    self.classes: dict[tuple, int] = {}
    self._compiled: dict[tuple, tuple[Plan, dict[int, Callable]]] = {}
    """By all but the number of images: the plan, and functions by that."""

  def look_again(self, model) -> None:
    """Takes a model as it is now for what the plans were compiled from.

    A first call builds a model, and may leave values in its attributes.
    """
    self.structure = None if model is None else Structure(model)

  def drop_replaced(self) -> None:
    """Forgets the plans of estimators that were registered anew."""
    self._compiled = {
      key: (plan, sizes)
      for key, (plan, sizes) in self._compiled.items()
      if plan.is_current
    }

  def scores(
    self, plan: Plan, model, inputs: blocks.Inputs, seed
  ) -> dict[str, tf.Tensor]:
    """Computes a plan; compiles it if no function suits.

    Args:
      plan: the estimators.
      model: of which these are the plans, or None.
      inputs: all images.
      seed: int32 scalar.
    """
    count, height, width, _ = inputs.images.shape
    key = (plan.key, *_signature(inputs))
    _, sizes = self._compiled.setdefault(key, (plan, {}))
    each = max(1, plan.gradient_evaluations) * height * width
    most = count + (0 if plan.is_eager else WORTH_PADDING // each)
    size = min((n for n in sizes if count <= n <= most), default=count)
    new = size not in sizes
    if new:
      sizes[size] = compile_plan(plan, model)
    if size > count:
      inputs = inputs.map(lambda values: blocks.padded(values, size))
    with xla_told():
      outcome = sizes[size](
        inputs.images,
        inputs.targets,
        inputs.keys,
        inputs.truth,
        seed,
        inputs.baseline,
      )
    if new:
      self.look_again(model)
    return {name: values[:count] for name, values in outcome.items()}


def _signature(inputs: blocks.Inputs) -> tuple:
  """Returns shapes and dtypes of what there is of one image."""
  values = vars(inputs).values()
  return tuple(v if v is None else (v.shape[1:], v.dtype) for v in values)


_without_model = Plans(None)


def plans_of(model) -> Plans:
  """Returns the compiled plans of a model, none of an earlier structure.

  Args:
    model: None for those of estimators that need none.
  """
  if model is None:
    plans = _without_model
  else:
    structure = Structure(model)
    plans = model.__dict__.get(CACHE)
    if plans is None or plans.structure != structure:
      # They live on the model, and are freed with it.
      plans = model.__dict__[CACHE] = Plans(structure)
  plans.drop_replaced()
  return plans
