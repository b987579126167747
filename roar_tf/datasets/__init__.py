"""Datasets: what a source is, the builders of our own, and how TFDS is read."""
