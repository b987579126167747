"""The real TPU compiler on a machine without a TPU: compiled, never run."""
