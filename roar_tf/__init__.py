"""roar_tf: does a feature-importance estimator find what a model really uses?

The public API is `explain`, `rank` and `mask`; everything else serves the
command-line tools. TensorFlow is imported when something is computed, see
`roar_tf.lazy`.
"""

import importlib

__version__ = '0.1.0'

_PUBLIC = {
  'explain': 'roar_tf.estimators',
  'rank': 'roar_tf.ranking',
  'mask': 'roar_tf.masking',
}

__all__ = ['explain', 'mask', 'rank']


def __getattr__(name):
  """Imports a public function when it is first used (PEP 562)."""
  if name in _PUBLIC:
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  """Lists the public functions, imported or not."""
  return sorted({*globals(), *_PUBLIC})
