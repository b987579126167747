"""A dry run: what is left of a study, what that takes, and how long.

What is left comes from the markers in the workspace. How long a unit takes is
what units of the same stage have taken, as the processes of the study have
written into their heartbeats; `roar_study --first` makes the first unit of
every stage, so that there is something to go by. A file of rates, as
`roar_preflight` writes it for chips that are not at hand, gives lower bounds.
"""

import collections
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

from roar_tf import engine
from roar_tf.engine import heartbeat, locations, status
from roar_tf.study import rates
from roar_tf.study.costs import Cost, total
from roar_tf.study.data import memory
from roar_tf.study.stages import Pipeline

NONE = 'none'
"""Value of --rates for counts only."""
_ROWS = (
  ('gradient evaluations', lambda cost: cost.gradient_evaluations),
  ('  of images', lambda cost: cost.images_explained),
  ('trainings', lambda cost: cost.trainings),
  ('  training steps', lambda cost: cost.steps + cost.explained_steps),
  ('models tested', lambda cost: cost.models_tested),
  ('  test images', lambda cost: cost.images_tested),
)


@dataclasses.dataclass(frozen=True)
class Left:
  """What is left of one stage.

  Attributes:
    stage: its name.
    units: how many it has.
    left: how many of them are unfinished.
    costs: what these take, by source; under '' what belongs to none.
  """

  stage: str
  units: int
  left: int
  costs: Mapping[str, Cost]

  @property
  def cost(self) -> Cost:
    """What they take over all sources."""
    return total(self.costs.values())


def left(
  pipeline: Pipeline,
  goals: Collection[engine.Artefact],
  within: Collection[str] | None,
) -> list[Left]:
  """Returns what is left of some goals, stage by stage.

  Args:
    pipeline: the study.
    goals: what is asked for.
    within: names of the stages that may work; None for all.

  Raises:
    UsageError: an artefact was made with other settings; it is named.
  """
  snapshot = engine.Snapshot(pipeline.context.workspace.root)
  graph = engine.Graph(goals, snapshot, within=within)
  units, unfinished = collections.Counter(), collections.Counter()
  pending, finished = {}, collections.defaultdict(list)
  for node in graph.nodes:
    name, stage = node.unit.stage, node.unit.makes[0].stage
    units[name] += 1
    unfinished[name] += bool(node.pending)
    waiting = {artefact.marker for artefact in node.pending}
    for artefact in node.unit.makes:
      if artefact.marker not in waiting:
        finished[stage].append(artefact)
      elif (
        artefact.soft_inputs
        or artefact.varies
        or not snapshot.exists(artefact.marker)
      ):
        pending.setdefault(stage, []).append(artefact)
  costs = collections.defaultdict(dict)
  for stage, artefacts in pending.items():
    source = pipeline.source_of(stage)
    cost = stage.cost(artefacts, finished[stage], snapshot)
    costs[stage.name][source] = cost
  return [
    Left(name, units[name], unfinished[name], costs[name])
    for name in graph.stages
  ]


@dataclasses.dataclass(frozen=True)
class Pace:
  """How long units take, and on what.

  Attributes:
    seconds: wall time of what is left, by stage; stages that nothing is known
      of are not there.
    devices: how many devices are busy meanwhile.
    basis: a sentence that says where this comes from.
    is_bound: whether nothing can be faster, and everything is slower.
  """

  seconds: Mapping[str, float]
  devices: int
  basis: str
  is_bound: bool = False


def pace_of_heartbeats(
  stages: Sequence[Left], records: Sequence[heartbeat.Record], parallel: int
) -> Pace | None:
  """Returns what finished units tell; None if nothing of what is left.

  Args:
    stages: what is left.
    records: the heartbeats of the study.
    parallel: units side by side, over all workers.
  """
  units = {stage.stage: stage.left for stage in stages if stage.left}
  seconds = status.seconds_left(status.means(records), units, parallel)
  if not seconds:
    return None
  devices = max((record.devices for record in records), default=1)
  return Pace(
    seconds,
    devices,
    'Times are means over the units that processes of this study have made. A '
    'first unit of a process takes longer than others.',
  )


def pace_of_rates(
  stages: Sequence[Left],
  machine: rates.Machine,
  of_sources: Mapping[str, rates.Rates],
  workers: int,
) -> Pace:
  """Returns what a file of rates tells of models, attributions and runs.

  Args:
    stages: what is left.
    machine: what the rates are of.
    of_sources: rates by source.
    workers: how many such machines share the study.
  """
  seconds = {}
  for stage in stages:
    work = 0.0
    for source, cost in stage.costs.items():
      if rate := of_sources.get(source):
        work += cost.gradient_evaluations * rate.gradient
        work += cost.steps * rate.step
        work += cost.explained_steps * rate.explained_step
        work += cost.images_tested * rate.test_image
    if work:
      seconds[stage.stage] = work / workers
  text = f'Rates: {machine.text}.'
  if machine.lower_bound:
    text += (
      ' A roofline is a lower bound: no program is as fast, and reading, '
      'writing and compiling are not in it.'
    )
  return Pace(seconds, machine.devices, text, machine.lower_bound)


def report(
  pipeline: Pipeline,
  goals: Collection[engine.Artefact],
  within: Collection[str] | None = None,
  *,
  rates_file: str | None = None,
  price: float | None = None,
  parallel: Callable[[], int] = lambda: 1,
  workers: int = 1,
) -> str:
  """Returns the dry run of a study as text.

  Args:
    pipeline: the study.
    goals: what is asked for.
    within: names of the stages that may work; None for all.
    rates_file: file of rates, or `none` for counts only; heartbeats if None.
    price: of an hour of a device.
    parallel: returns how many units run side by side on a machine; called where
      some are left.
    workers: how many machines like this share the study.

  Raises:
    UsageError: artefacts were made with other settings, or the file of rates
      cannot be used.
  """
  workspace, study = pipeline.context.workspace, pipeline.study.name
  sources = [each.context.source.name for each in pipeline.stages]
  given = None
  if rates_file not in (None, NONE):
    given = rates.read(rates_file, sources)
  stages = left(pipeline, goals, within)
  unfinished = any(stage.left for stage in stages)
  beside = parallel() if unfinished else 1
  pace = None
  if rates_file is None:
    records, _ = status.read(workspace.heartbeats(study))
    pace = pace_of_heartbeats(stages, records, beside * workers)
  elif given:
    pace = pace_of_rates(stages, *given, workers)
  root = locations.whole(workspace.root)
  lines = [f'Dry run of {study} in {root}: nothing was written.', '']
  if pipeline.looks:
    lines += [f'{pipeline.looks}', '']
  lines += _table(stages, pace)
  lines += ['', *_work(stages, sources)]
  if unfinished:
    lines += ['', *_cost(stages, pace, workers, price, rates_file == NONE)]
  if any(stage.left for stage in stages if stage.stage == 'train'):
    lines += ['', *_memory(pipeline, beside)]
  return '\n'.join(lines)


def _table(stages: Sequence[Left], pace: Pace | None) -> list[str]:
  """Returns units, bytes and time of every stage."""
  header = ('stage', 'units', 'done', 'to do', 'bytes to write')
  form = '{:<8}{:>12}{:>12}{:>12}{:>22}'
  lines = [form.format(*header) + (f'{"time":>18}' if pace else '')]
  every = Left(
    'all',
    sum(stage.units for stage in stages),
    sum(stage.left for stage in stages),
    {'': total(stage.cost for stage in stages)},
  )
  for stage in (*stages, every):
    counts = stage.units, stage.units - stage.left, stage.left
    line = form.format(
      stage.stage,
      *(f'{count:,}' for count in counts),
      f'{round(stage.cost.bytes):,}',
    )
    if pace:
      seconds = pace.seconds.get(stage.stage)
      if stage is every:
        seconds = sum(pace.seconds.values())
      text = 'unknown' if seconds is None else status.duration(seconds)
      line += f'{text if stage.left else "":>18}'
    lines.append(line.rstrip())
  return lines


def _work(stages: Sequence[Left], sources: Sequence[str]) -> list[str]:
  """Returns what is to be computed on every source."""
  costs = {
    source: total(
      stage.costs[source] for stage in stages if source in stage.costs
    )
    for source in sources
  }
  if len(sources) > 1:
    costs['all'] = total(costs.values())
  lines = [f'{"to compute":<22}' + ''.join(f'{name:>22}' for name in costs)]
  for label, count in _ROWS:
    values = ''.join(f'{count(cost):>22,}' for cost in costs.values())
    lines.append(f'{label:<22}{values}')
  return lines


def _memory(pipeline: Pipeline, parallel: int) -> list[str]:
  """Returns what the images of trainings take in memory, a line a source."""
  lines = []
  for each in pipeline.stages:
    context = each.context
    size = memory(context.experiment, context.memory_bound) / 1e9
    beside = f', {parallel} side by side' if parallel > 1 else ''
    lines.append(
      f'Images in memory: about {size:,.2g} GB a training of '
      f'{context.source.name}{beside}.'
    )
  return lines


def _cost(
  stages: Sequence[Left],
  pace: Pace | None,
  workers: int,
  price: float | None,
  counts_only: bool,
) -> list[str]:
  """Returns wall time, device-hours and money."""
  if counts_only:
    return []
  if pace is None:
    return [
      'How long it will take is unknown, since no unit of it has been made '
      'yet: --first',
      'makes the first unit of every stage, and this command then tells.',
    ]
  wall = sum(pace.seconds.values())
  hours = wall / 3600 * pace.devices * workers
  least = 'At least ' if pace.is_bound else 'About '
  shared = f', {workers} workers' if workers > 1 else ''
  cost = '' if price is None else f', cost {hours * price:,.2f}'
  lines = [
    f'{least}{status.duration(wall)} wall time{shared}; '
    f'{hours:,.3g} device-hours{cost}.'
  ]
  unknown = [s.stage for s in stages if s.left and s.stage not in pace.seconds]
  if unknown and not pace.is_bound:
    lines.append(
      f'Nothing was measured yet of {", ".join(unknown)}, which is not in it.'
    )
  return [*lines, pace.basis]
