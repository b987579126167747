"""Tests of the event files, read as TensorBoard reads them."""

import tensorflow as tf
from tensorflow.core.util import event_pb2

from roar_tf.training import events


def _values(directory):
  """Yields (step, tag, plugin, value) of all event files, in their order."""
  for path in sorted(tf.io.gfile.glob(f'{directory}/events.out.tfevents.*')):
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      event = event_pb2.Event.FromString(record)
      for value in event.summary.value:
        plugin = value.metadata.plugin_data.plugin_name
        found = tf.make_ndarray(value.tensor).item()
        yield event.step, value.tag, plugin, found


def test_scalars_and_the_configuration_are_written(tmp_path):
  with events.writing(str(tmp_path), 'a = 1\nb = "c"') as log:
    for step in (4, 8):
      metrics = {name: step + i for i, name in enumerate(events.SCALARS)}
      log(step, {**metrics, 'failed': -1})
  text, *scalars = _values(tmp_path)
  # Markdown shows indented lines as they are.
  assert text == (0, 'config.gin', 'text', b'    a = 1\n    b = "c"')
  assert scalars == [
    (step, f'train/{name}', 'scalars', float(step + i))
    for step in (4, 8)
    for i, name in enumerate(events.SCALARS)
  ]


def test_a_run_that_goes_on_adds_a_file(tmp_path):
  for step in (4, 8):
    with events.writing(str(tmp_path), '') as log:
      log(step, dict.fromkeys(events.SCALARS, 1.0))
  scalars = [v for v in _values(tmp_path) if v[2] == 'scalars']
  assert {step for step, *_ in scalars} == {4, 8}
  assert len(scalars) == 2 * len(events.SCALARS)
