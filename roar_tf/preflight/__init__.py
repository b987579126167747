"""The real TPU compiler on a machine without a TPU: compiled, never run."""

GROUPS = ('training', 'evaluation', 'attribution', 'others')
"""Groups of functions that run on a device; `functions` says what is in each.

They stand here so that flags can name them before TensorFlow is imported.
"""
