"""A tiny dataset and study, finished once per session, and tools in process.

TensorFlow takes seconds to start, so tools run in the process of the tests
wherever the demand does not ask for a process of its own.
"""

import csv
import dataclasses
import importlib.util
import io
import logging
import os
import pathlib
import re
import shutil
import signal
import sys

# Before TensorFlow is imported, as the tools do.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import roar_tf.engine.files  # noqa: E402, F401  It sets a variable, too.
from roar_tf.preflight import environment  # noqa: E402

# Or the import would wait minutes for a TPU VM's metadata server. Where the
# compiler is not installed, there may be a TPU: leave it alone.
if all(environment.versions().values()):
  environment.prepare()

import gin  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402
from tiny_study import (  # noqa: E402
  CLASSES,
  COUNTS,
  DATASET,
  PHOTOGRAPHS,
  SHAPE,
  STUDY,
  Photographs,
  Tiny,
  examples,
  store,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The tools' default: bytes depend on it, and only the first call counts.
tf.config.threading.set_intra_op_parallelism_threads(1)


def work(pipeline, goals, within=None, *, parallel=1, share=None, observers=()):
  """Makes goals of a pipeline in threads of this process."""
  from roar_tf import engine
  from roar_tf.study import stages

  stages.Workforce(
    lambda context: stages.local_pool(context, parallel),
    share or engine.Share(),
    observers,
    pipeline.context.stop,
  ).make(pipeline.context, goals, within)


@pytest.fixture(scope='session', name='work')
def work_fixture():
  """The function `work`."""
  return work


@pytest.fixture(scope='session')
def tiny(tmp_path_factory) -> Tiny:
  import tensorflow_datasets as tfds

  folder = tmp_path_factory.mktemp('tiny')
  features = {
    'image': tfds.features.Image(shape=SHAPE, encoding_format='png'),
    'label': tfds.features.ClassLabel(num_classes=CLASSES),
    'id': tfds.features.Text(),
    'truth': tfds.features.Tensor(
      shape=(8, 8, 1), dtype=np.uint8, encoding='zlib'
    ),
  }
  splits = {split: examples(split) for split in COUNTS}
  for values in splits.values():
    values['id'] = values['id'].astype(str)
  store(folder / 'data', 'tiny', '1.0.0', splits, features)
  (folder / 'tiny.gin').write_text(DATASET)
  study = STUDY.format(dataset=folder / 'tiny.gin')
  (folder / 'small.gin').write_text(study)
  return Tiny(
    str(folder / 'data'), str(folder / 'tiny.gin'), str(folder / 'small.gin')
  )


@pytest.fixture(scope='session')
def finished(tiny, tmp_path_factory) -> pathlib.Path:
  """A workspace in which one worker has finished the study; do not touch."""
  root = tmp_path_factory.mktemp('finished') / 'workspace'
  pipeline = tiny.pipeline(root)
  work(pipeline, pipeline.goals())
  return root


@pytest.fixture
def damaged(finished, tmp_path) -> pathlib.Path:
  """A copy of the finished workspace, to be changed; nobody worked on it."""
  return shutil.copytree(
    finished, tmp_path / 'workspace', ignore=shutil.ignore_patterns('status')
  )


@pytest.fixture
def photographs(tmp_path) -> Photographs:
  names = [f'train/class_{i % 2}/{i:02d}.jpg' for i in range(20)]
  names += [f'test/class_{i % 2}/{i:02d}.jpg' for i in range(8)]
  dataset = tmp_path / 'photographs.gin'
  dataset.write_text(PHOTOGRAPHS.format(folder=tmp_path / 'images'))
  study = tmp_path / 'small.gin'
  study.write_text(STUDY.format(dataset=dataset))
  made = Photographs(
    tmp_path / 'images', Tiny(str(tmp_path), str(dataset), str(study))
  )
  made.repair(*names)
  return made


@pytest.fixture(scope='session')
def raw() -> dict[str, dict[str, np.ndarray]]:
  """The examples of the tiny dataset, {split: {feature: values}}."""
  return {split: examples(split) for split in COUNTS}


@pytest.fixture(scope='session')
def store_dataset():
  """`store(data_dir, name, version, splits, features, config=None)`."""
  return store


@pytest.fixture(scope='session')
def randomise():
  """Function that gives a Keras model weights as a trained one may have."""

  def assign(model):
    generator = np.random.default_rng(0)
    for variable in model.variables:
      name, shape = variable.name, tuple(variable.shape)
      if 'variance' in name or 'gamma' in name:
        variable.assign(generator.uniform(0.5, 1.5, shape))
      elif 'kernel' in name:
        inputs = np.prod(
          shape[:2] if 'depthwise' in variable.path else shape[:-1]
        )
        variable.assign(generator.normal(0, np.sqrt(2 / inputs), shape))
      elif 'seed' not in name:
        variable.assign(generator.normal(0, 0.2, shape))
    return model

  return assign


@pytest.fixture(scope='session')
def artefacts():
  """Function from a workspace to {path: content}, measured times left out.

  What a killed process wrote aside is left out too: it has no name of ours. So
  are heartbeats, one per process.
  """

  def read(root) -> dict[str, bytes]:
    root = pathlib.Path(root)
    return {
      str(path.relative_to(root)): _timeless(path)
      for path in sorted(root.rglob('*'))
      if path.is_file()
      and path.name != 'timing.json'
      and path.parent.name != 'events'
      and path.relative_to(root).parts[0] != 'status'
      and '.tmp-' not in path.name
    }

  return read


def _timeless(path: pathlib.Path) -> bytes:
  data = path.read_bytes()
  if path.name == 'results.csv':
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    return repr([{**row, 'seconds': ''} for row in rows]).encode()
  if path.name == 'statistics.csv':
    costs = {'seconds', 'device_hours', 'cost'}
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    return repr([r for r in rows if r['quantity'] not in costs]).encode()
  if path.name == 'index.html':
    return re.sub(rb'<td class="time">[^<]*</td>', b'', data)
  return data


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a tool said and how it ended."""

  status: int
  out: str
  err: str

  def counts(self) -> dict[str, tuple[int, int, int]]:
    """Returns (made, kept, failed) by stage."""
    found = re.findall(
      r'^(\w+): (\d+) made, (\d+) kept, (\d+) failed', self.out, re.M
    )
    return {stage: tuple(map(int, numbers)) for stage, *numbers in found}


@pytest.fixture
def tool(monkeypatch, capsys):
  """Function that runs tools/<name>.py, or `roar_tf`, in this process.

  An exception that a tool lets through, a traceback for its user, passes.
  """
  from absl import logging as absl_logging

  from roar_tf import cli, cli_flags

  loggers = [logging.getLogger(n) for n in (None, 'roar_tf', 'tensorflow')]
  before = [(g.level, g.propagate, list(g.handlers)) for g in loggers]
  verbosity = absl_logging.get_verbosity()
  handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
  path = list(sys.path)

  def run(name: str, *arguments: str) -> Outcome:
    file = ROOT / 'tools' / f'{name}.py'
    if name == 'roar_tf':
      file = ROOT / 'roar_tf' / '__main__.py'
    monkeypatch.setattr(sys, 'argv', [str(file), *map(str, arguments)])
    capsys.readouterr()
    try:
      spec = importlib.util.spec_from_file_location(f'{name}_tool', file)
      module = importlib.util.module_from_spec(spec)
      spec.loader.exec_module(module)
      with pytest.raises(SystemExit) as exit_:
        module.run()
    finally:
      for flag in list(cli_flags.FLAGS):
        delattr(cli_flags.FLAGS, flag)
      # They define flags when they are imported.
      for tool_ in [n for n in sys.modules if n.startswith('roar_tf.tools.')]:
        del sys.modules[tool_]
      cli._stop.clear()
      logging.getLogger('roar_tf').handlers.clear()
    captured = capsys.readouterr()
    return Outcome(exit_.value.code or 0, captured.out, captured.err)

  yield run
  for logger, (level, propagate, old) in zip(loggers, before, strict=True):
    logger.setLevel(level)
    logger.propagate = propagate
    logger.handlers[:] = old
  absl_logging.set_verbosity(verbosity)
  for number, handler in handlers.items():
    signal.signal(number, handler)
  sys.path[:] = path


@pytest.fixture
def refused(tool, tmp_path):
  """Function that runs a tool, which must refuse in one sentence.

  It takes the tool's name, its arguments and words of the sentence. Nothing may
  be written into the workspace, an empty one unless the arguments name another.
  """

  def run(name: str, arguments, words) -> None:
    outcome = tool(name, f'--workspace={tmp_path}/w', *arguments)
    assert outcome.status == 2, outcome
    assert len(outcome.err.splitlines()) == 1, outcome.err
    for word in words:
      assert word in outcome.err
    assert not (tmp_path / 'w/tfds').exists()

  return run


@pytest.fixture(autouse=True)
def no_configuration_is_left():
  """The state of gin is global: no test inherits another's."""
  yield
  gin.clear_config()
