"""What a dry run says: one screen."""

from collections.abc import Mapping, Sequence

from roar_tf.planning import prediction
from roar_tf.planning.amounts import Amount, Tally
from roar_tf.planning.rates import Machine, Rates


def text(
  title: str,
  tallies: Sequence[Tally],
  amounts: Mapping[str, Amount],
  bytes_: Mapping[str, int],
  machine: Machine | None = None,
  rates: Mapping[str, Rates] | None = None,
  workers: int = 1,
  price: float | None = None,
) -> str:
  """Returns the dry run of a study as text.

  Args:
    title: what it is of.
    tallies: units by stage.
    amounts: work by source.
    bytes_: to be written, by stage.
    machine: what rates are of; None for counts only.
    rates: by source.
    workers: machines that share the study.
    price: of an hour of a device, in any currency.
  """
  wall = None
  if machine:
    wall = prediction.seconds(tallies, amounts, rates, machine, workers)
  lines = [f'Dry run of {title}: nothing was written.', '']
  lines += _stages(tallies, bytes_, wall)
  lines += ['', *_work(amounts)]
  if machine:
    lines += ['', *_cost(wall, machine, workers, price)]
  return '\n'.join(lines)


def _stages(tallies, bytes_, wall) -> list[str]:
  times = f'{"time":>18}' if wall is not None else ''
  lines = [
    f'{"stage":<8}{"units":>12}{"done":>12}{"to do":>12}'
    f'{"bytes to write":>22}{times}'
  ]
  for tally in tallies:
    time = ''
    if wall is not None:
      time = f'{duration(wall.get(tally.stage, 0.0)):>18}'
    lines.append(
      f'{tally.stage:<8}{tally.done + tally.left:>12,}{tally.done:>12,}'
      f'{tally.left:>12,}{bytes_.get(tally.stage, 0):>22,}{time}'
    )
  done, left = (sum(getattr(t, n) for t in tallies) for n in ('done', 'left'))
  time = f'{duration(sum(wall.values())):>18}' if wall is not None else ''
  lines.append(
    f'{"all":<8}{done + left:>12,}{done:>12,}{left:>12,}'
    f'{sum(bytes_.values()):>22,}{time}'
  )
  return lines


def _work(amounts: Mapping[str, Amount]) -> list[str]:
  rows = [
    ('gradient evaluations', lambda a: a.gradient_evaluations),
    ('  of images', lambda a: a.explained_images),
    ('trainings', lambda a: a.runs + bool(a.explained_steps)),
    ('  training steps', lambda a: a.steps + a.explained_steps),
    ('models tested', lambda a: a.evaluations),
    ('  test images', lambda a: a.evaluations * a.test_images),
  ]
  names = list(amounts) + (['all'] if len(amounts) > 1 else [])
  lines = [f'{"to compute":<22}' + ''.join(f'{n:>22}' for n in names)]
  for label, of in rows:
    values = [of(amount) for amount in amounts.values()]
    values += [sum(values)] if len(values) > 1 else []
    lines.append(f'{label:<22}' + ''.join(f'{v:>22,}' for v in values))
  return lines


def _cost(wall, machine: Machine, workers: int, price) -> list[str]:
  hours = prediction.device_hours(wall, machine, workers)
  least = 'At least ' if machine.lower_bound else 'About '
  shared = f', {workers} workers' if workers > 1 else ''
  start = (
    f', {duration(wall["start"])} of it to start' if 'start' in wall else ''
  )
  lines = [
    f'{least}{duration(sum(wall.values()))} wall time{shared}{start}; '
    f'{few_digits(hours)} device-hours'
    f'{"" if price is None else f", cost {hours * price:,.2f}"}.',
    f'Rates: {machine.text}.',
  ]
  if machine.lower_bound:
    lines.append(
      'A roofline is a lower bound: no program is as fast, and reading, '
      'writing and compiling are not in it.'
    )
  return lines


def few_digits(value: float) -> str:
  """Returns a number with three digits, or with all before the point."""
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def duration(seconds: float) -> str:
  """Returns seconds in words of two units, e.g. `3 min 20 s`."""
  whole = round(seconds)
  if whole < 60:
    return f'{seconds:.1f} s' if seconds < 10 else f'{whole} s'
  units = (('d', 86400), ('h', 3600), ('min', 60), ('s', 1))
  for (name, size), (lower, part) in zip(units, units[1:], strict=False):
    if whole >= size:
      return f'{whole // size:,} {name} {whole % size // part} {lower}'
  raise AssertionError(seconds)
