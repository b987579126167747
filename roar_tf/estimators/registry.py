"""Names of estimators: what is registered, and how a name is composed.

A registered estimator is a function `(model, images, targets, keys) -> scores`;
images are float [B, H, W, C], targets int32 [B] (the class whose logit is
explained), keys int32 [B, 2] (randomness of each example, the seed already
folded in); scores are [B, H, W, C], or [B, H, W, 1] or [B, H, W] for one score
per pixel. docs/guides/estimators.md has the whole contract. Prefixes compose
over every registered *base*, a user's own included: `sq_` squares, `sg_`
averages over noisy images, `var_` takes the variance over them. They read from
the left, outermost first: `sg_sq_grad` is the mean of squared gradients,
`sq_sg_grad` the square of the mean gradient.

`blur_` and `max_` stand before all others, and apply to controls and to scores
made elsewhere too: `blur_sg_sq_grad`, `max_random`. They are controls
themselves: filtering a map adds nothing about the model, and yet may improve
its ROAR score (Song et al., "On Pitfalls of RemOve-And-Retrain").

Other controls are known to studies only, which have rankings and the training
of the explained model. `untrained_x` is x on a model with the weights that this
training starts from. `shuffle_x`, `shuffle_same_x`, `shuffle_other_x` and
`oracle_30` are no scores but rankings made from another one, `Derivation` in
`names`. They stand before everything: `shuffle_blur_untrained_grad`.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence

from roar_tf import cells, errors, own_code, ranking
from roar_tf.estimators import functions, names
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
    eager: whether it is called outside of graphs, with NumPy arrays.
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
  eager: bool = False

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
    filter: None, or what is applied to the map at the end, of `names.FILTERS`.
    trained: of an estimator on a model with initial weights, the name of the
      same estimator on the explained model; None of all others.
    derivation: how its ranking is made from another one; None where it is made
      from scores. All other attributes are then those of the other ranking.
  """

  name: str
  base: Registered
  statistic: str | None = None
  squared: bool = False
  filter: str | None = None
  trained: str | None = None
  derivation: names.Derivation | None = None


_registry: dict[str, Registered] = {}


def register(
  name: str,
  *,
  eager: bool = False,
  needs_model: bool = True,
  needs_truth: bool = False,
  gradients: int = 1,
  rule: str | None = None,
  path: bool = False,
  settings: Sequence[str] = (),
  counts: str = 'exact',
  version: str | None = None,
) -> Callable[[Function], Function]:
  """Decorator that registers an estimator function under a name.

      @roar_tf.register('grad_x_input')
      def grad_x_input(model, images, targets, keys):
        return images * roar_tf.estimators.grad(model, images, targets, keys)

  The function is a part of a `tf.function`, and is made of TensorFlow
  operations. One that is not, since it needs NumPy or an explainer of another
  library, is registered with `eager=True`. docs/guides/estimators.md says what
  a function is given and what it may return.

  Args:
    name: identifier of lower-case letters, digits and underscores; must not
      be taken by another function, nor begin with a prefix, nor be like
      `oracle_30`.
    eager: True for a function that is called outside of graphs: its images,
      targets and keys are NumPy arrays, and it may return one. CPUs and GPUs
      run it; TPUs and XLA do not.
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
      called with these arguments.
  """
  if callable(name):
    raise errors.UsageError(
      'register takes the name of the estimator: write '
      f'@roar_tf.register("{getattr(name, "__name__", "mine")}") above the '
      'function.'
    )
  cells.check_estimator_name(name)
  names.check_free(name)
  if counts not in ranking.COUNTS:
    raise errors.UsageError(
      f'Estimator "{name}": counts must be one of {ranking.COUNTS}, found '
      f'{counts!r}.'
    )
  if eager and rule:
    raise errors.UsageError(
      f'Estimator "{name}": a plan computes what has a rule by itself, and '
      'never calls the function, eager or not; leave out rule or eager.'
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
    known = known and functions.origin(known.function)
    if known and known != functions.origin(function):
      raise errors.UsageError(
        f'An estimator named {name!r} exists already, '
        f'{".".join(map(str, known))}: give yours another name.'
      )
    code = None
    # Of what `exec` defines it may be None.
    module = getattr(function, '__module__', None) or ''
    if not module.startswith('roar_tf.'):
      functions.check_signature(
        name, function, [*settings, *(['truth'] if needs_truth else [])]
      )
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
      bool(eager),
    )
    return function

  return decorate


def names_of(function: Function) -> tuple[str, ...]:
  """Returns the names that a function is registered under."""
  return tuple(n for n, each in _registry.items() if each.function is function)


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


def asks_model(name: str) -> bool:
  """Returns whether an estimator, or what it is made from, asks a model.

  Scores that were made elsewhere ask none that is at hand.
  """
  found = find(name)
  return bool(found and found.base.needs_model)


def check_new_for_scores(name: str) -> None:
  """Raises UsageError for what scores made elsewhere cannot be called."""
  cells.check_estimator_name(name)
  names.check_free_for_scores(name)
  if find(name):
    raise errors.UsageError(
      f'An estimator named {name!r} exists already; scores from files need '
      'another name.'
    )


def made_elsewhere(name: str) -> Estimator:
  """Returns what a name means whose scores were made elsewhere.

  They are no attributions of a model that is at hand: no prefix applies but the
  filters, and those of rankings that are made from rankings.
  """
  if derivation := _derivation(name):
    inner = made_elsewhere(derivation.ranking)
    return dataclasses.replace(inner, name=name, derivation=derivation)
  kind = next((k for k in names.FILTERS if name.startswith(f'{k}_')), None)
  base = name.removeprefix(f'{kind}_') if kind else name
  registered_ = Registered(base, _unavailable, needs_model=False, gradients=0)
  return Estimator(name, registered_, filter=kind)


def with_those_behind(name: str) -> Iterator[str]:
  """Yields an estimator, and those whose rankings its ranking is made from.

  Args:
    name: it need not mean anything here, see `find`.

  Raises:
    UsageError: it says what cannot be.
  """
  yield name
  if derivation := _derivation(name):
    yield from with_those_behind(derivation.ranking)


def _unavailable(model, images, targets, keys):
  raise errors.UsageError('The scores of this estimator were made elsewhere.')


def parse(name: str) -> Estimator:
  """Returns the estimator that a name means.

  Raises:
    UsageError: unknown name (the nearest is suggested), prefixes over a
      control, two ensembles over noise, or prefixes in another order.
  """
  if name in _registry:
    return Estimator(name, _registry[name])
  if derivation := _derivation(name):
    return _derived(name, derivation)
  for kind in names.FILTERS:
    if name.startswith(f'{kind}_'):
      return _filtered(name, kind)
  if name.startswith(names.UNTRAINED):
    return _untrained(name)
  prefix = next((p for p in names.ENSEMBLES if name.startswith(p)), None)
  if prefix is None:
    raise _unknown(name)
  inner = _inner(name, prefix)
  outer = inner.trained and names.UNTRAINED
  if outer := f'{inner.filter}_' if inner.filter else outer:
    raise errors.UsageError(
      f'Estimator "{name}": prefix "{prefix}" cannot stand before '
      f'"{outer}", which comes first.'
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


def _inner(name: str, prefix: str) -> Estimator:
  """Returns what stands behind a prefix other than those of derivations.

  Raises:
    UsageError: it means nothing, or is a ranking made from a ranking.
  """
  try:
    inner = parse(name.removeprefix(prefix))
  except errors.UsageError as e:
    raise e if 'cannot' in str(e) else _unknown(name) from e
  if inner.derivation:
    raise errors.UsageError(
      f'Estimator "{name}": prefix "{prefix}" cannot apply to "{inner.name}", '
      'which is made from a ranking and has no scores.'
    )
  return inner


def _derivation(name: str) -> names.Derivation | None:
  """Returns how the ranking of a name is made from another one, or None.

  Raises:
    UsageError: the name says what cannot be, or may mean two things.
  """
  derivation = None if name in _registry else names.derivation(name)
  plain = name.removeprefix('shuffle_')
  if derivation and derivation.ranking != plain and plain in _registry:
    raise errors.UsageError(
      f'Estimator "{name}" cannot be told from "{plain}", shuffled: register '
      f'"{plain}" under another name.'
    )
  return derivation


def _derived(name: str, derivation: names.Derivation) -> Estimator:
  """Returns the estimator of a ranking that is made from another one."""
  try:
    inner = parse(derivation.ranking)
  except errors.UsageError as e:
    raise e if 'cannot' in str(e) else _unknown(name) from e
  return dataclasses.replace(inner, name=name, derivation=derivation)


def _untrained(name: str) -> Estimator:
  """Returns the estimator of a name that begins with `untrained_`."""
  inner = _inner(name, names.UNTRAINED)
  if inner.trained:
    raise errors.UsageError(f'Estimator "{name}" cannot be untrained twice.')
  if not inner.base.needs_model:
    raise errors.UsageError(
      f'Estimator "{name}": prefix "{names.UNTRAINED}" cannot apply to '
      f'"{inner.base.name}", which asks no model.'
    )
  return dataclasses.replace(inner, name=name, trained=inner.name)


def _filtered(name: str, kind: str) -> Estimator:
  """Returns the estimator of a name that begins with a filter."""
  inner = _inner(name, f'{kind}_')
  if inner.filter:
    raise errors.UsageError(f'Estimator "{name}" cannot be filtered twice.')
  if inner.base.counts != 'exact':
    raise errors.UsageError(
      f'Estimator "{name}": prefix "{kind}_" cannot apply to '
      f'"{inner.base.name}", whose draws select one by one.'
    )
  trained = inner.trained and f'{kind}_{inner.trained}'
  return dataclasses.replace(inner, name=name, filter=kind, trained=trained)


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
  prefixes = [prefix for prefix in names.OUTER if name.startswith(prefix)]
  outer = [f'{prefix}{n}' for prefix in prefixes for n in plain]
  hint = errors.nearest(_OTHER_NAMES.get(name.lower(), name), [*plain, *outer])
  known = ', '.join(registered())
  return errors.UsageError(
    f'Unknown estimator "{name}".{hint} Registered: {known}; '
    'prefixes sq_, sg_, sg_sq_, var_, sq_sg_ over any of '
    f'{", ".join(sorted(bases))}; untrained_ before any of these; blur_ or '
    'max_ before any name; shuffle_, shuffle_same_ or shuffle_other_ before '
    'these; oracle_1 to oracle_100.'
  )
