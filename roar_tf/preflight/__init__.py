"""The real TPU compiler on a machine without a TPU: compiled, never run."""

KINDS = ('training', 'evaluation', 'attribution', 'others')
"""Kinds of functions that run on a device."""
