"""Datasets: what a source is, the builders of our own, and how TFDS is read.

Importing this package registers the builders `roar_<source>` with TFDS, see
`roar_tf.datasets.registration`.
"""

from roar_tf.datasets import registration  # noqa: F401
