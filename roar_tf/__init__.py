"""roar_tf: does a feature-importance estimator find what a model really uses?

    scores = roar_tf.explain(model, images, ['grad', 'sg_sq_ig'])
    levels = roar_tf.rank(scores['sg_sq_ig'])
    masked = roar_tf.mask(images, levels, threshold=50, fill=0)

The public API is `__all__`. TensorFlow is
imported when something is computed, see `roar_tf.lazy`.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = '0.1.0'

__all__ = [
  'estimators',
  'explain',
  'mask',
  'rank',
  'register',
]

if TYPE_CHECKING:  # For editors; `__getattr__` imports them.
  from roar_tf import estimators
  from roar_tf.estimators import explain, register
  from roar_tf.masking import mask
  from roar_tf.ranking import rank

_MODULES = ('estimators',)
_FUNCTIONS = {
  'explain': 'roar_tf.estimators',
  'mask': 'roar_tf.masking',
  'rank': 'roar_tf.ranking',
  'register': 'roar_tf.estimators',
}


def __getattr__(name):
  """Imports what is public when it is first used (PEP 562)."""
  if name in _MODULES:
    return importlib.import_module(f'roar_tf.{name}')
  if name in _FUNCTIONS:
    value = getattr(importlib.import_module(_FUNCTIONS[name]), name)
    globals()[name] = value
    return value
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  """Lists what is public, imported or not."""
  return sorted({*globals(), *__all__} - {'TYPE_CHECKING', 'importlib'})
