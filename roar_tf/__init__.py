"""roar_tf: does a feature-importance estimator find what a model really uses?

The public API is `explain`, `rank` and `mask`; everything else serves the
command-line tools. TensorFlow is imported on first use, so that `--help` is
instant.
"""

import importlib
import importlib.util

__version__ = '0.1.0'

if importlib.util.find_spec('tensorflow') is None:
  raise ImportError(
    'roar_tf needs TensorFlow 2.20 or later, which comes with an extra: '
    'install roar_tf[cpu], roar_tf[cuda] or roar_tf[tpu].'
  )

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
