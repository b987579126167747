"""Scalars of a training for TensorBoard, and its configuration as text."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import tensorflow as tf

# tf.summary.scalar and tf.summary.text want TensorBoard to be installed where
# they write. What they write is a tensor that says which plugin shows it.
_Metadata = tf.compat.v1.SummaryMetadata
_SCALAR = _Metadata(
  plugin_data=_Metadata.PluginData(plugin_name='scalars'),
  data_class='DATA_CLASS_SCALAR',
)
_TEXT = _Metadata(
  plugin_data=_Metadata.PluginData(plugin_name='text'),
  data_class='DATA_CLASS_TENSOR',
)

SCALARS = ('loss', 'accuracy', 'rate', 'images_per_second')


@contextlib.contextmanager
def writing(
  directory: str, operative_config: str
) -> Iterator[Callable[[int, Mapping], None]]:
  """Yields a function `(step, metrics) -> None` that logs SCALARS.

  Args:
    directory: of the event files.
    operative_config: the gin parameters in force, shown as text.
  """
  with contextlib.closing(tf.summary.create_file_writer(directory)) as writer:

    def log(step: int, metrics: Mapping) -> None:
      with writer.as_default(step):
        for name in SCALARS:
          value = tf.constant(metrics[name], tf.float32)
          tf.summary.write(f'train/{name}', value, metadata=_SCALAR)

    with writer.as_default(0):
      # Indented, Markdown shows it as it is.
      lines = operative_config.splitlines()
      text = '\n'.join(f'    {line}' for line in lines)
      tf.summary.write('config.gin', tf.constant(text), metadata=_TEXT)
    yield log
