"""The real TPU compiler on a machine without a TPU: compiled, never run."""

KINDS = ('training', 'evaluation', 'attribution', 'others')
"""Kinds of functions that run on a device."""

PRECISIONS = {'float32': 'float32', 'bfloat16': 'mixed_bfloat16'}
"""Keras' dtype policies by what they compute in; variables stay float32."""
