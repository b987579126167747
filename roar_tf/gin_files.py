"""Where the configurations that come with roar_tf lie; needs no TensorFlow."""

import os

from roar_tf import errors

_HERE = os.path.dirname(os.path.abspath(__file__))
_KNOWN = 'studies/quickstart.gin'


def root() -> str:
  """Returns the directory of the configurations that come with roar_tf.

  In a wheel they lie inside the package; in a checkout or an editable install
  beside it. (The folder beside a wheel's package could be the library `gin`.)
  """
  for folder in (
    os.path.join(_HERE, 'configs'),
    os.path.join(os.path.dirname(_HERE), 'gin'),
  ):
    if os.path.exists(os.path.join(folder, _KNOWN)):
      return folder
  raise errors.UsageError(
    f'roar_tf is installed incompletely: no {_KNOWN} beside {_HERE}; install '
    'it again.'
  )


def available(kind: str) -> list[str]:
  """Returns the names of the configurations of a kind, e.g. `studies`."""
  folder = os.path.join(root(), kind)
  return sorted(
    name.removesuffix('.gin')
    for name in os.listdir(folder)
    if name.endswith('.gin')
  )
