"""Rates measured here: a small study of synthetic images, by the real stages.

The model, the estimators, the settings and the code are the study's own; only
counts are small. What large images would make too slow or too large is scaled:
smaller batches, fewer noisy copies and steps of integration, and time in
proportion. It all happens in a temporary directory.
"""

import concurrent.futures
import contextlib
import dataclasses
import io
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from roar_tf import errors, workspace
from roar_tf.cells import Cell
from roar_tf.estimators import registry
from roar_tf.planning import synthetic
from roar_tf.planning.amounts import gradient_evaluations
from roar_tf.planning.rates import Machine, Rates
from roar_tf.study import pipeline, rank_stage, train_stage, trainings, units
from roar_tf.study.context import Context
from roar_tf.study.experiment import Experiment
from roar_tf.study.grid import Run
from roar_tf.training.settings import Training


def measure(
  works: Sequence[pipeline.Work],
  parallel: int,
  stop: Callable[[], bool] = lambda: False,
) -> tuple[Machine, dict[str, Rates]]:
  """Returns this machine, and its rates on every source of a study.

  Args:
    works: the study.
    parallel: units that will run side by side.
    stop: whether a signal asked to stop.

  Raises:
    PreemptedError: stopped.
    UsageError: an estimator or model of the user's raises.
  """
  devices = works[0].context.devices
  if devices.replicas > 1:
    parallel = 1  # As in `pipeline.run`.
  start = _process_seconds()
  load = os.getloadavg()[0]  # By others too: whoever reads it shall know.
  known, rates, made = {}, {}, []
  with (
    tempfile.TemporaryDirectory() as folder,
    contextlib.redirect_stdout(io.StringIO()),
    _quiet_log(),
  ):
    for index, work in enumerate(works):
      key = alike(work)
      if key not in known:
        small = _Small(work, f'{folder}/{index}', parallel, stop)
        known[key] = _tried(small.rates)
        made.append(small)
      rates[work.context.experiment.source.name] = _scaled(
        known[key], work.context.experiment
      )
    report = made[0].report_seconds() * len(works)
  kind = units.environment()['device']
  machine = Machine(
    f'measured here on synthetic images: {devices.replicas} {kind}'
    f'{"" if devices.replicas == 1 else "s"}, {parallel} units side by side, '
    f'load {load:.1f} before it',
    devices.replicas * devices.hosts if kind != 'CPU' else 1,
    parallel,
    start=start,
    report=report,
  )
  return machine, rates


def _tried(task: Callable[[], Rates]) -> Rates:
  try:
    return task()
  except (errors.UsageError, errors.PreemptedError):
    raise
  except Exception as e:  # A user's estimator or model may raise anything.
    text = str(e) if isinstance(e, errors.RoarError) else errors.describe(e)
    raise errors.UsageError(
      f'rates cannot be measured, since the study fails on synthetic images '
      f'({" ".join(text.split())}); --rates=none counts without them.'
    ) from e


def alike(work: pipeline.Work) -> str:
  """Returns what the rates of a source depend on, but for its counts."""
  experiment = work.context.experiment
  source = experiment.source

  def what(training: Training, factory):
    settings = training.settings(factory)
    return [
      settings.pop(f'Training.{name}')
      for name in ('precision', 'microbatches', 'augmentation')
    ] + [settings['Training.model'], sorted(factory.arguments.items())]

  return repr(
    [
      source.image_shape,
      source.preprocessing,
      source.truth,
      bool(trainings.fit_memory(source, source.count('train'))),
      list(dict.fromkeys((c.estimator, c.granularity) for c in _cells(work))),
      experiment.attribution,
      experiment.ranking,
      str(experiment.given),
      what(experiment.explained, experiment.explained_model),
      what(experiment.retrained, experiment.retrained_model),
      work.input,
    ]
  )


def _scaled(measured: Rates, experiment: Experiment) -> Rates:
  """Returns rates of one image in each batch, for the batches of a source."""
  return dataclasses.replace(
    measured,
    step=measured.step * experiment.retrained.batch_size,
    explained_step=measured.explained_step * experiment.explained.batch_size,
  )


@contextlib.contextmanager
def _quiet_log():
  log = logging.getLogger('roar_tf')
  level = log.level
  log.setLevel(logging.WARNING)
  try:
    yield
  finally:
    log.setLevel(level)


def _process_seconds() -> float:
  """Returns the age of this process, where Linux tells it, else 0."""
  try:
    with open('/proc/self/stat') as stat, open('/proc/uptime') as uptime:
      # The name of the program, in brackets, may hold spaces.
      started = int(stat.read().rpartition(')')[2].split()[19])
      alive = float(uptime.read().split()[0])
  except (OSError, ValueError, IndexError):
    return 0.0
  return max(0.0, alive - started / os.sysconf('SC_CLK_TCK'))


class _Small:
  """A small study like a large one, in a directory of its own."""

  def __init__(self, work: pipeline.Work, folder: str, parallel: int, stop):
    self._parallel, self._stop = parallel, stop
    real = work.context.experiment
    cpu = units.environment()['device'] == 'CPU'
    replicas = work.context.devices.replicas
    cells = _cells(work)
    self._names = tuple(dict.fromkeys(cell.estimator for cell in cells))
    experiment = synthetic.small_experiment(
      real, self._names, parallel, cpu, replicas
    )
    self._context = Context(
      workspace.Workspace(folder),
      experiment,
      stop=stop,
      connect=lambda: work.context.devices,
      memory_bound=work.context.memory_bound
      if trainings.fit_memory(real.source, real.source.count('train'))
      else 0,
    )
    self._context.cached(
      ('reader',), lambda: synthetic.Reader(experiment.source)
    )
    self._work = dataclasses.replace(
      work, context=self._context, cells=cells, chosen=None
    )
    # One unit of the stage shards writes all cells of a ranking.
    ranking = cells[0].ranking if cells else None
    self._cells = [cell for cell in cells if cell.ranking == ranking]

  def rates(self) -> Rates:
    """Runs the small study, and returns its rates; steps are per image."""
    found = {'once': {}}
    self._source(found)
    explains = bool(self._work.units('model'))
    if self._cells:
      if explains:
        self._model(found)
      self._rank(found)
      self._shards(found)
    self._train(found)
    found = {'explained_step': found['step'], 'gradient': 0.0, **found}
    once = {stage: float(value) for stage, value in found.pop('once').items()}
    return Rates(
      **{name: float(value) for name, value in found.items()}, once=once
    )

  def _source(self, found) -> None:
    # The first completes the dataset with what TFDS takes to import.
    alone, several, last = self._made(self._work.units('source'))
    images = self._context.images('train')
    found['read'] = sum(several) / images
    found['once']['source'] = max(0.0, alone[0] - several[0]) + sum(last)

  def _model(self, found) -> None:
    before = self._steps_seconds()
    (seconds,), _, _ = self._made(self._work.units('model'))
    experiment = self._context.experiment
    in_steps = self._steps_seconds() - before
    if not experiment.given:
      found['explained_step'] = in_steps / (
        experiment.explained.train_steps * experiment.explained.batch_size
      )
    found['once']['model'] = seconds - in_steps

  def _rank(self, found) -> None:
    made = self._work.units('rank')
    size = rank_stage.images_per_call(self._context.experiment)
    size *= self._context.devices.explaining
    clocks = []
    alone, several, last = self._made(
      made, lambda: clocks.extend(_clocks(self._context))
    )
    maps = len(made[0].targets)
    images = self._context.images('train')
    explaining = sum(sum(clock.seconds) for clock in clocks)
    each = gradient_evaluations(self._context.experiment, self._names)
    if each:
      calls = sum(
        -(-self._context.records(*part) // size)
        for part in self._context.all_shards('train')
      )
      found['gradient'] = explaining / (calls * size * each)
      other = sum(several) - explaining
    else:
      other = sum(several)
    found['ranked'] = other / (images * maps)
    found['dataset'] = float(np.mean(last))
    found['once']['rank'] = max(0.0, alone[0] - np.mean(several))

  def _shards(self, found) -> None:
    work = dataclasses.replace(self._work, cells=self._cells, input='shards')
    alone, several, last = self._made(work.units('shards'))
    images = self._context.images('train')
    found['masked'] = sum(several) / (images * len(self._cells))
    found['dataset'] = float(np.mean(last))
    found['once']['shards'] = max(0.0, alone[0] - np.mean(several))

  def _train(self, found) -> None:
    context = self._context
    training = context.experiment.retrained
    cell = self._cells[0] if self._cells else None
    template = Run('calibration', context.experiment.source.name, cell, 0)
    runs = [
      dataclasses.replace(template, seed=seed)
      for seed in range(2 * self._parallel + 1)
    ]
    kind = self._work.input
    made = train_stage.units(context, runs, kind)
    marks = []
    alone, several, _ = self._made(
      made, lambda: marks.append(self._steps_seconds())
    )
    in_steps = (self._steps_seconds() - marks[0]) / len(several)
    found['step'] = in_steps / (training.train_steps * training.batch_size)
    data = trainings.examples_of(context, cell, kind)
    machine = trainings.trainer(context, 'retrained')
    state = machine.initial_state('calibration')
    evaluating = self._side_by_side(
      [lambda: machine.evaluate(state, data['test'])] * self._parallel
    )
    test = len(data['test'])
    found['test_image'] = float(np.mean(evaluating)) / test
    found['run'] = max(0.0, np.mean(several) - in_steps - np.mean(evaluating))
    found['loaded'] = self._loading(cell, kind)
    found['once']['train'] = max(0.0, alone[0] - np.mean(several))

  def _loading(self, cell, kind) -> float:
    """Returns seconds to load one image, of all or of the test split."""
    context = self._context
    for key in [k for k in context.cache if k[0] in ('examples', 'files')]:
      del context.cache[key]
    start = time.monotonic()
    data = trainings.examples_of(context, cell, kind)
    len(data['test'].labels)
    images = len(data['test'])
    if context.memory_bound != 0:
      images += len(data['train'])
    return (time.monotonic() - start) / images

  def report_seconds(self) -> float:
    """Returns what the report of all runs takes, with made-up accuracies."""
    source = self._context.experiment.source.name
    runs = [dataclasses.replace(run, source=source) for run in self._work.runs]
    work = dataclasses.replace(self._work, runs=runs)
    for made in work.units('train'):
      (target,) = made.targets
      place = target.done.removesuffix(f'/{workspace.DONE}')
      result = {'accuracy': 0.5, 'top5': 0.5, 'steps': 1, 'test_images': 1}
      workspace.write_json(f'{place}/result.json', result)
      workspace.write_json(f'{place}/timing.json', {'seconds': 1.0})
      said = workspace.fingerprint(
        target.stage, target.version, target.settings, {}
      )
      workspace.write_done(target.done, said)
    (unit,) = pipeline.units([work], 'report')
    return self._timed(lambda: unit.work(unit.pending()))

  def _made(self, made, before_others: Callable[[], object] = lambda: None):
    """Makes units as the pipeline does.

    Args:
      made: the units; the last of those that are not shared goes first, alone.
      before_others: called after that one.

    Returns:
      Lists of seconds: of the first, of the others, side by side, and of those
      that complete datasets.
    """
    own = [u for u in made if not u.shared]
    shared = [u for u in made if u.shared]

    def tasks(some):
      return [lambda unit=unit: unit.work(unit.pending()) for unit in some]

    alone = self._side_by_side(tasks(own[-1:]))
    before_others()
    others = self._side_by_side(tasks(own[:-1]))
    return alone, others, self._side_by_side(tasks(shared))

  def _side_by_side(self, tasks) -> list[float]:
    with concurrent.futures.ThreadPoolExecutor(self._parallel) as pool:
      return list(pool.map(self._timed, tasks))

  def _timed(self, task: Callable[[], object]) -> float:
    if self._stop():
      raise errors.PreemptedError(
        'stopped while rates were measured; nothing is kept.'
      )
    start = time.monotonic()
    task()
    return time.monotonic() - start

  def _steps_seconds(self) -> float:
    return pipeline.step_seconds([self._work])


class _Clock:
  """A compiled function whose calls are timed."""

  def __init__(self, function):
    self._function = function
    self.seconds = []

  def __call__(self, *arguments):
    start = time.monotonic()
    outcome = self._function(*arguments)
    tf.test.experimental.sync_devices()
    self.seconds.append(time.monotonic() - start)
    return outcome


def _clocks(context: Context) -> list[_Clock]:
  """Times the explaining of images by estimators that look at the model."""
  clocks = []
  for key, function in context.cache.items():
    kind, *rest = key
    if kind == 'explainer' and gradient_evaluations(
      context.experiment, rest[0]
    ):
      clocks.append(_Clock(function))
      context.cache[key] = clocks[-1]
  return clocks


def _cells(work: pipeline.Work) -> list[Cell]:
  """Returns the cells to be made, one control for scores from files."""
  cells = [
    dataclasses.replace(cell, estimator='random')
    if registry.parse(cell.estimator).base.external
    else cell
    for cell in work.chosen_cells
  ]
  return list(dict.fromkeys(cells))
