"""A training that saves often and goes on where it was.

    python interrupted_program.py DIRECTORY

Prints `training` when its first step has been made, and the SHA-256 of the
final state; exits 75 when SIGTERM stopped it.
"""

import hashlib
import os
import signal
import sys
import threading

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import numpy as np
import tensorflow as tf

from roar_tf import errors, randomness
from roar_tf.models import resnet
from roar_tf.training import examples, loop, settings

SHAPE, CLASSES, COUNT = (8, 8, 3), 3, 200
STEPS = 6000


def network(shape, classes):
  """Returns a small network with batch norm."""
  return resnet.small_resnet(shape, classes, width=4, stages=2)


def main(directory: str) -> int:
  """Trains, from the last checkpoint if there is one."""
  tf.config.threading.set_intra_op_parallelism_threads(1)
  stop = threading.Event()
  signal.signal(signal.SIGTERM, lambda *_: stop.set())
  generator = np.random.default_rng(0)
  ids = np.array([b'%d' % i for i in range(COUNT)], object)
  split = examples.Examples(
    tf.constant(generator.integers(0, 256, (COUNT, *SHAPE)), tf.uint8),
    tf.constant(generator.integers(0, CLASSES, COUNT), tf.int32),
    randomness.keys_of_ids(ids),
    ids,
  )
  training = settings.Training(
    model=network,
    epochs=STEPS * 16 / COUNT,
    batch_size=16,
    base_learning_rate=0.4,
    warmup_epochs=5,
    augmentation='pad_crop_flip',
  )
  loop.CALL_SECONDS = 0.05
  trainer = loop.Trainer(
    network, SHAPE, CLASSES, training, [120.0] * 3, [70.0] * 3
  )
  resumption = loop.Resumption(
    directory, {'settings': {}, 'inputs': {}}, 0.1, stop.is_set
  )
  try:
    state, steps = trainer.train(
      split,
      'run',
      resumption=resumption,
      log=lambda step, metrics: print('training', step, flush=True),
    )
  except errors.PreemptedError as e:
    return e.exit_status
  digest = hashlib.sha256()
  for value in tf.nest.flatten(state):
    digest.update(np.asarray(value).tobytes())
  print('finished', steps, digest.hexdigest(), flush=True)
  return 0


if __name__ == '__main__':
  sys.exit(main(*sys.argv[1:]))
