"""Names of estimators: what is registered, and how a name is composed.

A registered estimator is a function `(model, images, targets, keys) -> scores`;
images and scores are float [B, H, W, C], targets int32 [B] (the class whose
logit is explained), keys int32 [B, 2] (randomness of each example, the seed
already folded in). Prefixes compose over every registered *base*, a user's own
included: `sq_` squares, `sg_` averages over noisy images, `var_` takes the
variance over them. They read from the left, outermost first: `sg_sq_grad` is
the mean of squared gradients, `sq_sg_grad` the square of the mean gradient.

`blur_` and `max_` stand before all others, and apply to controls and to scores
made elsewhere too: `blur_sg_sq_grad`, `max_random`. They are controls
themselves: filtering a map adds nothing about the model, and yet may improve
its ROAR score (Song et al., "On Pitfalls of RemOve-And-Retrain").
"""

import dataclasses
import functools
import sys
from collections.abc import Callable

from roar_tf import cells, errors, own_code, ranking
from roar_tf.lazy import tf

Function = Callable[..., 'tf.Tensor']


@dataclasses.dataclass(frozen=True)
class Registered:
  """An estimator that stands under a name of its own.

  Attributes:
    name: identifier.
    function: `(model, images, targets, keys) -> scores`; with `needs_truth` it
      also takes the keyword `truth`, [B, H, W, 1].
    needs_model: whether the function looks at the model.
    needs_truth: whether it needs the dataset's ground truth.
    gradients: gradient evaluations per image, for estimates of cost; those of a
      base with a `rule` are counted by the plan.
    rule: how ReLUs pass gradients back, for a base that is made from gradients
      of the logit alone: the plan then shares the evaluations between bases.
    path: whether such a base averages gradients along an integration path.
    settings: names of the fields of `Settings` that change its values; those
      that a plan does not use itself are passed as keywords.
    counts: `exact` ranks the scores; `bernoulli` takes them for independent
      uniform draws that each select their own element (see `ranking.rank`).
    code: the code of a user's own estimator.
  """

  name: str
  function: Function
  needs_model: bool = True
  needs_truth: bool = False
  gradients: int = 1
  rule: str | None = None
  path: bool = False
  settings: tuple[str, ...] = ()
  counts: str = 'exact'
  code: own_code.Code | None = None

  @property
  def is_built_in(self) -> bool:
    """Whether it comes with roar_tf; it is a user's own otherwise."""
    # Of a partial function this is `functools`.
    module = getattr(self.function, '__module__', None) or ''
    return module.startswith('roar_tf.')

  @property
  def composable(self) -> bool:
    """Prefixes apply to attributions of a model, not to controls or draws."""
    return self.needs_model and self.counts == 'exact'


@dataclasses.dataclass(frozen=True)
class Estimator:
  """A parsed name: a base, at most one ensemble over noise, squares, a filter.

  Attributes:
    name: the whole identifier.
    base: the registered estimator it is made from.
    statistic: None for one estimate on the clean image, else `mean`,
      `mean_of_squares` or `variance` over noisy images.
    squared: whether the outcome is squared.
    filter: None, or what is applied to the map at the end, of `FILTERS`.
  """

  name: str
  base: Registered
  statistic: str | None = None
  squared: bool = False
  filter: str | None = None


_registry: dict[str, Registered] = {}


def register(
  name: str,
  *,
  needs_model=True,
  needs_truth=False,
  gradients=1,
  rule=None,
  path=False,
  settings=(),
  counts='exact',
  version: str | None = None,
) -> Callable[[Function], Function]:
  """Decorator that registers an estimator function under a name.

  Args:
    name: identifier of lower-case letters, digits and underscores; must not
      be taken by another function, nor begin with a prefix, nor be like
      `oracle_30`.
    needs_model: False for a control that never looks at the model.
    needs_truth: True if the function takes the keyword `truth`.
    gradients: gradient evaluations per image.
    rule: see `Registered`; a custom estimator leaves it out, like the next two.
    path: likewise.
    settings: likewise.
    counts: `bernoulli` if the scores are draws that select one by one.
    version: your own word for the version of an estimator of yours. Rankings
      are made anew under another word; without one, when its source code has
      changed, or that of a module of yours which it imports.

  Raises:
    UsageError: the name is taken, has a meaning already or is not an
      identifier; there are no such counts; or what is registered cannot be
      called.
  """
  cells.check_estimator_name(name)
  _check_free(name)
  if counts not in ranking.COUNTS:
    raise errors.UsageError(
      f'Estimator "{name}": counts must be one of {ranking.COUNTS}, found '
      f'{counts!r}.'
    )

  caller = sys._getframe(1).f_globals.get('__name__', '')

  def decorate(function: Function) -> Function:
    if not callable(function):
      raise errors.UsageError(
        f'Estimator {name!r} must be a function (model, images, targets, keys) '
        f'-> scores, found {function!r}.'
      )
    known = _registry.get(name)
    # Loading the same file again (gin imports, notebooks) is harmless.
    if known and _origin(known.function) != _origin(function):
      raise errors.UsageError(f'An estimator named {name!r} exists already.')
    code = None
    if not getattr(function, '__module__', '').startswith('roar_tf.'):
      title = f'estimator "{name}"'
      code = own_code.behind(function, title, version, named_in=caller)
    _registry[name] = Registered(
      name,
      function,
      needs_model,
      needs_truth,
      gradients,
      rule,
      path,
      tuple(settings),
      counts,
      code,
    )
    return function

  return decorate


def _check_free(name: str) -> None:
  """Raises UsageError for a name that says how an estimator is composed."""
  reserved = (*_PREFIXES, *(f'{kind}_' for kind in FILTERS))
  prefix = next((p for p in reserved if name.startswith(p)), None)
  if prefix:
    raise errors.UsageError(
      f'An estimator of your own cannot be named {name!r}: "{prefix}" before a '
      'name says what is done with the scores of another estimator; register '
      'another name, which then has all prefixes.'
    )
  base, _, share = name.rpartition('_')
  if base in ('oracle', 'inverse_oracle') and share.isdigit():
    raise errors.UsageError(
      f'An estimator of your own cannot be named {name!r}: names like '
      f'{base}_30 are kept for an oracle of which a share is random; register '
      'another name.'
    )


def _origin(function: Function) -> tuple[str, str]:
  """Returns module and name of a function, a partial one's or an object's."""
  while isinstance(function, functools.partial):
    function = function.func
  named = function if hasattr(function, '__qualname__') else type(function)
  return named.__module__, named.__qualname__


def registered() -> tuple[str, ...]:
  """Returns the names of all registered estimators."""
  return tuple(sorted(_registry))


def find(name: str) -> Estimator | None:
  """Returns the estimator that a name means, None if it means nothing here.

  A name that means nothing may be that of a ranking in some workspace, whose
  scores were made elsewhere.
  """
  try:
    return parse(name)
  except errors.UsageError:
    return None


def made_elsewhere(name: str) -> Estimator:
  """Returns what a name means whose scores were made elsewhere.

  They are no attributions of a model that is at hand: no prefix applies but the
  filters.
  """
  kind = next((k for k in FILTERS if name.startswith(f'{k}_')), None)
  base = name.removeprefix(f'{kind}_') if kind else name
  registered_ = Registered(base, _unavailable, needs_model=False, gradients=0)
  return Estimator(name, registered_, filter=kind)


def _unavailable(model, images, targets, keys):
  raise errors.UsageError('The scores of this estimator were made elsewhere.')


_PREFIXES = ('sg_', 'var_', 'sq_')
FILTERS = ('blur', 'max')
"""What may be applied to a map; each is a prefix, the outermost."""


def parse(name: str) -> Estimator:
  """Returns the estimator that a name means.

  Raises:
    UsageError: unknown name (the nearest is suggested), prefixes over a
      control, two ensembles over noise, or a filter that is not outermost.
  """
  if name in _registry:
    return Estimator(name, _registry[name])
  for kind in FILTERS:
    if name.startswith(f'{kind}_'):
      return _filtered(name, kind)
  prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
  if prefix is None:
    raise _unknown(name)
  try:
    inner = parse(name.removeprefix(prefix))
  except errors.UsageError as e:
    raise e if 'cannot' in str(e) else _unknown(name) from e
  if inner.filter:
    raise errors.UsageError(
      f'Estimator "{name}": prefix "{prefix}" cannot stand before '
      f'"{inner.filter}_", which comes first.'
    )
  if not inner.base.composable:
    raise errors.UsageError(
      f'Estimator "{name}": prefix "{prefix}" cannot apply to '
      f'"{inner.base.name}", which is no attribution of the model.'
    )
  if prefix == 'sq_':
    if inner.squared:
      raise errors.UsageError(f'Estimator "{name}" cannot be squared twice.')
    return dataclasses.replace(inner, name=name, squared=True)
  if inner.statistic:
    raise errors.UsageError(
      f'Estimator "{name}" cannot have two ensembles over noise.'
    )
  if prefix == 'sg_':
    statistic = 'mean_of_squares' if inner.squared else 'mean'
    return Estimator(name, inner.base, statistic)
  if inner.squared:
    raise errors.UsageError(
      f'Estimator "{name}" cannot take the variance of squares.'
    )
  return Estimator(name, inner.base, 'variance')


def _filtered(name: str, kind: str) -> Estimator:
  """Returns the estimator of a name that begins with a filter."""
  try:
    inner = parse(name.removeprefix(f'{kind}_'))
  except errors.UsageError as e:
    raise e if 'cannot' in str(e) else _unknown(name) from e
  if inner.filter:
    raise errors.UsageError(f'Estimator "{name}" cannot be filtered twice.')
  if inner.base.counts != 'exact':
    raise errors.UsageError(
      f'Estimator "{name}": prefix "{kind}_" cannot apply to '
      f'"{inner.base.name}", whose draws select one by one.'
    )
  return dataclasses.replace(inner, name=name, filter=kind)


_OTHER_NAMES = {
  'gradient': 'grad',
  'saliency': 'grad',
  'guided_backprop': 'gb',
  'guidedbackprop': 'gb',
  'integrated_gradients': 'ig',
  'integratedgradients': 'ig',
  'smoothgrad': 'sg_grad',
  'smoothgrad_squared': 'sg_sq_grad',
  'squaregrad': 'sg_sq_grad',
  'vargrad': 'var_grad',
}
"""What other libraries call them."""


def _unknown(name: str) -> errors.UsageError:
  bases = [n for n, r in _registry.items() if r.composable]
  composed = [
    p + b for b in bases for p in ('sq_', 'sg_', 'sg_sq_', 'var_', 'sq_sg_')
  ]
  plain = [*_registry, *composed]
  kinds = [kind for kind in FILTERS if name.startswith(f'{kind}_')]
  filtered = [f'{kind}_{n}' for kind in kinds for n in plain]
  hint = errors.nearest(
    _OTHER_NAMES.get(name.lower(), name), [*plain, *filtered]
  )
  known = ', '.join(registered())
  return errors.UsageError(
    f'Unknown estimator "{name}".{hint} Registered: {known}; '
    'prefixes sq_, sg_, sg_sq_, var_, sq_sg_ over any of '
    f'{", ".join(sorted(bases))}, and blur_ or max_ before any name.'
  )
