"""roar_tf: does a feature-importance estimator find what a model really uses?

    scores = roar_tf.explain(model, images, ['grad', 'sg_sq_ig'])
    levels = roar_tf.rank(scores['sg_sq_ig'])
    masked = roar_tf.mask(images, levels, threshold=50, fill=0)

    roar_tf.plot.attributions(images, scores)
    roar_tf.load_results('workspace', 'quickstart').table()

The public API is `__all__`; docs/guides/library.md shows all of it. TensorFlow
is imported when something is computed, see `roar_tf.lazy`.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = '0.1.0'

__all__ = [
  'estimators',
  'explain',
  'load_model',
  'load_results',
  'mask',
  'plot',
  'rank',
  'register',
  'save_scores',
]

if TYPE_CHECKING:  # For editors; `__getattr__` imports them.
  from roar_tf import estimators, plot
  from roar_tf.estimators import explain, register
  from roar_tf.masking import mask
  from roar_tf.ranking import rank
  from roar_tf.study.saved_scores import save_scores
  from roar_tf.study.stored_model import load_model
  from roar_tf.study.stored_results import load_results

_MODULES = ('estimators', 'plot')
_FUNCTIONS = {
  'explain': 'roar_tf.estimators',
  'load_model': 'roar_tf.study.stored_model',
  'load_results': 'roar_tf.study.stored_results',
  'mask': 'roar_tf.masking',
  'rank': 'roar_tf.ranking',
  'register': 'roar_tf.estimators',
  'save_scores': 'roar_tf.study.saved_scores',
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
