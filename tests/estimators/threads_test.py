"""Test that threads may share a compiled plan, as units of work do."""

import subprocess
import sys

SCRIPT = """
import threading
import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
from roar_tf.estimators import Plan, Settings, compile_plan
from roar_tf.models import resnet

model = resnet.small_resnet((16, 16, 3), 10, width=8)
images = tf.random.normal([128, 16, 16, 3])
keys = tf.zeros([128, 2], tf.int32)
explain = compile_plan(Plan(['grad'], Settings()), model)


def grad():
  return explain(images, None, keys, None, tf.constant(0))['grad'].numpy()


expected = grad()
wrong = []


def work():
  for _ in range(150):
    if not np.array_equal(grad(), expected):
      wrong.append(1)


threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
  thread.start()
for thread in threads:
  thread.join()
assert not wrong, f'{len(wrong)} of 300 differ'
"""


def test_two_threads_get_the_bits_of_one():
  # In a process of its own: kernels that share state crash.
  done = subprocess.run(
    [sys.executable, '-c', SCRIPT], capture_output=True, text=True, check=False
  )
  assert done.returncode == 0, done.stderr[-500:]
