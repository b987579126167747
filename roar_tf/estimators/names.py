"""The grammar of names of estimators: prefixes, and what they are kept for.

`registry` says what a whole name means.
"""

import dataclasses
import re

from roar_tf import errors

ENSEMBLES = ('sg_', 'var_', 'sq_')
"""Prefixes over attributions of a model."""
FILTERS = ('blur', 'max')
"""What may be applied to a map; each is a prefix."""
UNTRAINED = 'untrained_'
"""Prefix over what explains a model with its initial weights."""
_SHUFFLES = ('shuffle_same', 'shuffle_other', 'shuffle')  # The longest first.
_OF_STUDIES = (*(f'{kind}_' for kind in _SHUFFLES), UNTRAINED)
OUTER = (*(f'{kind}_' for kind in FILTERS), *_OF_STUDIES)
"""All other prefixes."""
_SHARE = re.compile(r'(?P<base>oracle|inverse_oracle)_(?P<share>[0-9]+)')
_CONTROLS = re.compile(
  'random|random_bernoulli|centre|(inverse_)?oracle|oracle_[0-9]+'
  '|(blur|max|shuffle|untrained)_.*'
)


@dataclasses.dataclass(frozen=True)
class Derivation:
  """How a ranking is made from another one, its level maps alone.

  Attributes:
    kind: `shuffle` gives every image the map of another image of its split,
      `shuffle_same` that of another image of its class, and `shuffle_other`
      that of an image of another class; `permute` swaps levels inside of maps.
    ranking: the name of the other ranking.
    share: percentage of each map whose levels `permute` swaps.
  """

  kind: str
  ranking: str
  share: int = 0


def derivation(name: str) -> Derivation | None:
  """Returns what a name says of a ranking that is made from another one.

  Whether the other ranking exists is not known here.

  Returns:
    None for all other names.

  Raises:
    UsageError: it says what cannot be.
  """
  if match := _SHARE.fullmatch(name):
    share = int(match['share'])
    if name == f'oracle_{share}' and 1 <= share <= 100:
      return Derivation('permute', 'oracle', share)
    raise errors.UsageError(
      f'Estimator "{name}" cannot be: an oracle of which a share is random is '
      'named by whole percentages, oracle_1 to oracle_100.'
    )
  kind = next((k for k in _SHUFFLES if name.startswith(f'{k}_')), None)
  if kind is None:
    return None
  ranking = name.removeprefix(f'{kind}_')
  if ranking.startswith('shuffle_'):
    # The other image of another one may be the image itself.
    raise errors.UsageError(f'Estimator "{name}" cannot be shuffled twice.')
  return Derivation(kind, ranking)


def is_control(name: str) -> bool:
  """Returns whether an estimator tests the benchmark and does not compete.

  Controls are random itself, `centre`, the oracles, whole or with a random
  share; `blur_` or `max_` of any estimator, which know no more of the model
  than that estimator does; and `shuffle_` or `untrained_` of it, which know
  nothing of the image, or of what the model has learnt. `sobel` is none: it is
  an estimator of the paper, and competes.
  """
  return bool(_CONTROLS.fullmatch(name))


def check_free(name: str) -> None:
  """Raises UsageError for a name that says how an estimator is composed."""
  if prefix := _first(name, (*ENSEMBLES, *OUTER)):
    raise errors.UsageError(
      f'An estimator of your own cannot be named {name!r}: "{prefix}" before a '
      'name says what is done with the scores of another estimator; register '
      'another name, which then has all prefixes.'
    )
  _check_no_share(name)


def check_free_for_scores(name: str) -> None:
  """Raises UsageError for a name that scores made elsewhere cannot have.

  They may be called `sg_` and the like, by whoever made them so; what a study
  makes from rankings and models is another thing.
  """
  if prefix := _first(name, _OF_STUDIES):
    raise errors.UsageError(
      f'Scores from files cannot be named {name!r}: "{prefix}" before a name '
      'says what a study makes from another estimator; choose another name.'
    )
  _check_no_share(name)


def _first(name: str, prefixes: tuple[str, ...]) -> str | None:
  """Returns the first of some prefixes that a name has."""
  return next((p for p in prefixes if name.startswith(p)), None)


def _check_no_share(name: str) -> None:
  """Raises UsageError for a name like that of an oracle with a random share."""
  if match := _SHARE.fullmatch(name):
    raise errors.UsageError(
      f'An estimator of your own cannot be named {name!r}: names like '
      f'{match["base"]}_30 are kept for an oracle of which a share is random; '
      'choose another name.'
    )
