"""What a preflight found: a page of text, and the same as JSON."""

import dataclasses
from collections.abc import Sequence

from roar_tf import errors
from roar_tf.preflight.results import Outcome, Result
from roar_tf.study import rates

NEVER_RUN = 'compiled for, never run on, TPU'

_HEADER = (
  f'{"function":<35}{"batch":>6}{"memory":>9}{"args":>9}{"temps":>9}{"fits":>5}'
  f'{"GFLOP":>9}{"GB":>8}{"FLOP/B":>8}{"ms":>9}  {"bound":<8}{"per s":>9}'
)
_LEGEND = """
memory, args, temps: of a chip, 1G = 2^30 bytes. ms: the roofline of one call,
the larger of operations and bytes over the peaks; no program is as fast. A
replica alone: the exchange of gradients is not in it. -: the program loops, and
the compiler counts the body of a loop once. largest: power of two that fits;
close to a chip's memory the compiler computes values twice.
"""


def text(result: Result, versions: dict) -> str:
  """Returns the report of one experiment on one topology.

  Args:
    result: what was found.
    versions: of the packages that compiled.
  """
  topology, chip = result.topology, result.topology.chip
  lines = [
    f'{result.source} on {topology.name}: {topology.chips} '
    f'chip{"s" if topology.chips > 1 else ""} {chip.name}, {result.precision}; '
    f'{NEVER_RUN}.',
    'Compiler: ' + ', '.join(f'{k} {v}' for k, v in versions.items()) + '.',
    f'Published peaks of {chip.name}: {chip.flops / 1e12:g} TFLOP/s '
    f'(bfloat16), {chip.hbm / 2**30:g} GiB at {chip.bandwidth / 1e9:g} GB/s; '
    f'programs may use {chip.usable / 2**30:.2f} GiB.',
  ]
  compiled = [o for o in result.outcomes if not o.error]
  others = [o for o in compiled if o.group == 'others']
  large = [o for o in compiled if o.group != 'others']
  if large:
    lines += ['', _HEADER, *map(_row, large), _LEGEND]
  if others:
    names = '; '.join(o.name for o in others if o.fits)
    lines.append(f'Also compile: {names}.')
  lines += [f'{o.name} {_too_large(o)}' for o in others if not o.fits]
  if result.cores is not None:
    lines.append(
      'Host cores per chip, to train at the roofline from '
      f'{result.images_per_core:g} images/s per core: {result.cores:.1f}.'
    )
  lines.append(_study(result))
  lines += [f'FAILED {o.name}: {o.error}' for o in result.errors]
  return '\n'.join(line.rstrip() for line in lines) + '\n'


def _row(outcome: Outcome) -> str:
  name = f'{outcome.name:<35}{outcome.batch:>6}'
  program, roofline = outcome.program, outcome.roofline
  if program is None:
    return f'{name}  {_too_large(outcome)}'
  sizes = (program.memory, program.arguments, program.temporaries)
  memory = ''.join(f'{_size(value):>9}' for value in sizes)
  row = f'{name}{memory}{"yes" if outcome.fits else "NO":>5}'
  if roofline is None:
    return f'{row}{"-":>9}{"-":>8}{"-":>8}{"-":>9}'
  return (
    f'{row}{program.flops / 1e9:>9.1f}{program.bytes_accessed / 1e9:>8.2f}'
    f'{roofline.intensity:>8.1f}{roofline.seconds * 1e3:>9.3f}  '
    f'{roofline.bound:<8}{outcome.per_second:>9,.0f}'
  )


def _too_large(outcome: Outcome) -> str:
  needed = f': {_size(outcome.needed)} needed' if outcome.needed else ''
  return f'does not fit{needed}'


def _size(value: float) -> str:
  """Returns bytes with three digits or so, e.g. 15.75G."""
  for unit, letter in ((2**30, 'G'), (2**20, 'M')):
    if value >= unit:
      return f'{value / unit:.2f}{letter}'
  return f'{value / 2**10:.2f}K'


def _study(result: Result) -> str:
  """Returns what a study takes on one chip."""
  work, hours = result.work, result.hours
  if work is None:
    return 'Device-hours: of a study only; give --study.'
  line = (
    f'Study on {result.source}: {work.runs} trainings, {work.steps:,} '
    f'steps in all; {work.gradient_evaluations:,} gradient evaluations of '
    f'{work.explained_images:,} images. '
  )
  if hours is None:
    return f'{line}Device-hours: not told, for want of a compiled step.'
  told = {name: _few_digits(value) for name, value in hours.items()}
  total = told.pop('all')
  parts = ', '.join(f'{name} {value}' for name, value in told.items())
  return (
    f'{line}At least {total} hours of one {result.topology.chip.name} chip at '
    f'the roofline ({parts}).'
  )


def _few_digits(value: float) -> str:
  """Returns a number with three digits, or with all before the point."""
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def as_json(results: Sequence[Result], versions: dict) -> dict:
  """Returns everything that was found as JSON values."""
  return {
    'status': NEVER_RUN,
    'versions': versions,
    'results': [
      {
        **dataclasses.asdict(result),
        'outcomes': [
          {**dataclasses.asdict(o), 'per_second': o.per_second}
          for o in result.outcomes
        ],
        'hours': result.hours,
        'cores': result.cores,
      }
      for result in results
    ],
  }


def as_rates(results: Sequence[Result]) -> dict:
  """Returns what `roar_study --dry_run --rates=FILE` reads, as JSON values.

  Args:
    results: of the sources of a study, on one topology.

  Raises:
    UsageError: a function was not compiled, or does not fit.
  """
  for result in results:
    if result.rates is None:
      raise errors.UsageError(
        f'--rates: the times of {result.source} are not known, for want of a '
        'compiled training step, evaluation or gradient that fits; see above.'
      )
  topology = results[0].topology
  machine = rates.Machine(
    f'the roofline of {topology.name}, {results[0].precision}; {NEVER_RUN}',
    devices=topology.chips,
    lower_bound=True,
  )
  return rates.as_json(machine, {r.source: r.rates for r in results})


def failures(results: Sequence[Result]) -> str:
  """Returns one sentence that names all that failed, empty if nothing did."""
  failed = [
    f'{outcome.name} on {result.topology.name} ({outcome.error})'
    for result in results
    for outcome in result.errors
  ]
  return f'not made for TPUs: {"; ".join(failed)}.' if failed else ''
