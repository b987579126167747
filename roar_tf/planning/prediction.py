"""Arithmetic: amounts of work times rates, to seconds of every stage."""

from collections.abc import Mapping, Sequence

from roar_tf.planning.amounts import Amount, Tally
from roar_tf.planning.rates import Machine, Rates


def seconds(
  tallies: Sequence[Tally],
  amounts: Mapping[str, Amount],
  rates: Mapping[str, Rates],
  machine: Machine,
  workers: int = 1,
) -> dict[str, float]:
  """Returns the wall time of every stage that has something left.

  Units of a stage are dealt out to `workers` processes, each of which runs
  `machine.parallel` side by side; stages wait for each other.

  Args:
    tallies: units by stage.
    amounts: by source.
    rates: by source; of those that have something left.
    machine: what the rates are of.
    workers: how many such machines share the study.
  """
  found = {}
  for tally in tallies:
    if not tally.left:
      continue
    if tally.stage == 'report':
      found['report'] = machine.report
      continue
    found[tally.stage] = sum(
      _stage(
        tally.stage,
        amount,
        rates[name],
        machine.parallel,
        workers,
      )
      for name, amount in amounts.items()
      if not amount.is_empty
    )
  if found and machine.start:
    found = {'start': machine.start, **found}
  return found


def _stage(
  stage: str,
  amount: Amount,
  rates: Rates,
  parallel: int,
  workers: int,
) -> float:
  """Returns the wall time of one stage on one source."""

  def spread(work: float, units: int) -> float:
    # The last round may not fill all places.
    rounds = -(-units // (parallel * workers))
    return work * rounds / units if units else 0.0

  datasets = amount.datasets.get(stage, 0)
  completing = spread(rates.dataset * datasets, datasets)
  units = amount.units.get(stage, 0)
  once = rates.once.get(stage, 0.0)
  evaluation = rates.test_image * amount.test_images
  if stage == 'model':
    if not amount.explained_models:
      return 0.0
    trained = amount.explained_steps * rates.explained_step
    return once + trained + evaluation
  if stage == 'train':
    tested = amount.evaluations - amount.explained_models
    if not tested:
      return 0.0
    work = amount.steps * rates.step + amount.runs * rates.run
    # Runs on one cell wait until it is loaded.
    loading = amount.images_loaded * rates.loaded / workers
    return once + loading + spread(work + tested * evaluation, tested)
  if not units and not datasets:
    return 0.0
  work = {
    'source': amount.left('source') * rates.read,
    'rank': amount.left('rank') * rates.ranked
    + amount.padded_evaluations * rates.gradient,
    'shards': amount.left('shards') * rates.masked,
  }[stage]
  return once + spread(work, units) + completing


def device_hours(
  wall: Mapping[str, float], machine: Machine, workers: int = 1
) -> float:
  """Returns hours of one device, those included in which it waits."""
  return sum(wall.values()) / 3600 * machine.devices * workers
