"""Scalars of a training for TensorBoard, and its configuration as text."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

from roar_tf.lazy import tf

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
  scalars = _metadata('scalars', 'DATA_CLASS_SCALAR')
  texts = _metadata('text', 'DATA_CLASS_TENSOR')
  with contextlib.closing(tf.summary.create_file_writer(directory)) as writer:

    def log(step: int, metrics: Mapping) -> None:
      with writer.as_default(step):
        for name in SCALARS:
          value = tf.constant(metrics[name], tf.float32)
          tf.summary.write(f'train/{name}', value, metadata=scalars)

    with writer.as_default(0):
      # Indented, Markdown shows it as it is.
      lines = operative_config.splitlines()
      text = '\n'.join(f'    {line}' for line in lines)
      tf.summary.write('config.gin', tf.constant(text), metadata=texts)
    yield log


def _metadata(plugin: str, data_class: str):
  """Returns what tells TensorBoard which of its plugins shows a tensor.

  tf.summary.scalar and tf.summary.text do the same, but want TensorBoard to be
  installed where they write.
  """
  metadata = tf.compat.v1.SummaryMetadata
  return metadata(
    plugin_data=metadata.PluginData(plugin_name=plugin), data_class=data_class
  )
