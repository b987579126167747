"""What a preflight found: a page of text, and the same as JSON."""

import dataclasses
from collections.abc import Sequence

from roar_tf import errors
from roar_tf.planning import rates as planned
from roar_tf.planning import screen
from roar_tf.preflight import estimates
from roar_tf.preflight.preflight import Outcome, Result

NEVER_RUN = 'compiled for, never run on, TPU'

_COLUMNS = (
  f'{"function":<31}{"batch":>6}{"memory":>9}{"args":>9}{"temps":>9}{"fits":>5}'
  f'{"GFLOP":>9}{"GB":>8}{"FLOP/B":>8}{"ms":>9}  {"bound":<8}{"per s":>9}'
)


def text(result: Result, versions: dict, images_per_core: float | None) -> str:
  """Returns the report of one experiment on one topology.

  Args:
    result: what was found.
    versions: of the packages that compiled.
    images_per_core: images per second that a host core prepares, or None.
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
  parameters = max((o.parameters for o in result.outcomes), default=0)
  if parameters:
    lines.append(
      f'Parameters: {parameters:,}, '
      f'{_size(4 * parameters)} in float32, of the largest model.'
    )
  large = [o for o in result.outcomes if o.kind != 'others' and not o.error]
  if large:
    lines += ['', _COLUMNS, *(_row(o) for o in large)]
    lines += [
      '',
      'memory, args, temps: of a chip, 1G = 2^30 bytes. ms: the roofline of '
      'one call, the larger of',
      'operations and bytes over the peaks; no program is as fast. A replica '
      'alone: the exchange of',
      'gradients is not in it.',
    ]
  if any(o.error is None and o.roofline is None and o.fits for o in large):
    lines.append(
      '-: the program loops, and the compiler counts the body of a loop once.'
    )
  lines += ['', *_largest_lines(result.outcomes)]
  others = [o for o in result.outcomes if o.kind == 'others' and not o.error]
  if others:
    lines.append(
      f'Also compile: {"; ".join(o.name for o in others if o.fits)}.'
    )
    lines += [f'Does not fit: {_too_large(o)}' for o in others if not o.fits]
  lines += _host_line(result, images_per_core)
  lines += _study_lines(result)
  lines += [f'FAILED {o.name}: {o.error}' for o in result.errors]
  return '\n'.join(line.rstrip() for line in lines) + '\n'


def _row(outcome: Outcome) -> str:
  name = f'{outcome.name:<31}{outcome.batch:>6}'
  program, roofline = outcome.program, outcome.roofline
  if program is None:
    return f'{name}  does not fit: {_too_large(outcome)}'
  memory = ''.join(
    f'{_size(value):>9}'
    for value in (program.memory, program.arguments, program.temporaries)
  )
  fits = 'yes' if outcome.fits else 'NO'
  if roofline is None:
    return f'{name}{memory}{fits:>5}' + f'{"-":>9}{"-":>8}{"-":>8}{"-":>9}'
  return (
    f'{name}{memory}{fits:>5}{program.flops / 1e9:>9.1f}'
    f'{program.bytes_accessed / 1e9:>8.2f}{roofline.intensity:>8.1f}'
    f'{roofline.seconds * 1e3:>9.3f}  {roofline.bound:<8}'
    f'{outcome.per_second:>9,.0f}'
  )


def _too_large(outcome: Outcome) -> str:
  needed = f'{_size(outcome.needed)} needed' if outcome.needed else 'too large'
  return f'{outcome.name}, batch {outcome.batch}: {needed}'


def _size(value: float) -> str:
  """Returns bytes with three digits or so, e.g. 15.75G."""
  unit, letter = next(
    (unit, letter)
    for unit, letter in ((2**30, 'G'), (2**20, 'M'), (2**10, 'K'))
    if value >= unit or letter == 'K'
  )
  return f'{value / unit:.2f}{letter}'


def _largest_lines(outcomes: Sequence[Outcome]) -> list[str]:
  """Returns what is known of the largest batches."""
  lines = []
  for outcome in outcomes:
    if outcome.largest_batch is None:
      continue
    line = (
      f'Largest power-of-two batch of {outcome.name} that fits a chip: '
      f'{outcome.largest_batch or "none"}'
      f'{" or more" * (outcome.largest_batch == estimates.MOST_ROWS)}'
    )
    program = outcome.largest_program
    if program and outcome.program and outcome.program.flops:
      more = (program.flops / outcome.largest_batch) / (
        outcome.program.flops / outcome.batch
      )
      if more > 1.05:
        # To make it fit; seen at 1024 images of a ResNet-50's training step.
        line += (
          f', with {more:.2f} times the operations per image: the compiler '
          'computes some twice to save memory'
        )
    lines.append(line + '.')
  return lines


def _host_line(result: Result, images_per_core: float | None) -> list[str]:
  if images_per_core is None:
    return [
      'Host cores per chip: not told; measure what one core of the host '
      'decodes and give it as --input_images_per_second_per_core.'
    ]
  if result.cores is None:
    return []
  return [
    f'Host cores per chip, to train at the roofline from {images_per_core:g} '
    f'images/s per core: {result.cores:.1f}.'
  ]


def _study_lines(result: Result) -> list[str]:
  """Returns what a study takes on one chip."""
  amount, hours = result.amount, result.hours
  if amount is None:
    return ['Device-hours: of a study only; give --study.']
  work = (
    f'Study on {result.source}: {amount.runs} trainings, {amount.steps:,} '
    f'steps in all; {amount.gradient_evaluations:,} gradient evaluations of '
    f'{amount.explained_images:,} images'
  )
  if hours is None:
    return [f'{work}. Device-hours: not told, for want of a compiled step.']
  parts = ', '.join(
    f'{name} {screen.few_digits(value)}'
    for name, value in hours.items()
    if name != 'all'
  )
  return [
    f'{work}. At least {screen.few_digits(hours["all"])} hours of one '
    f'{result.topology.chip.name} chip at the roofline ({parts}).'
  ]


def as_json(results: Sequence[Result], versions: dict) -> dict:
  """Returns everything that was found as JSON values."""
  return {
    'status': NEVER_RUN,
    'versions': versions,
    'results': [
      {
        **dataclasses.asdict(result),
        'outcomes': [
          {
            **dataclasses.asdict(outcome),
            'per_second': outcome.per_second,
            'memory': outcome.program.memory if outcome.program else None,
          }
          for outcome in result.outcomes
        ],
      }
      for result in results
    ],
  }


def rates(results: Sequence[Result]) -> dict:
  """Returns what `roar_study --dry_run --rates=FILE` reads, as JSON values.

  Args:
    results: of the sources of a study, on one topology.

  Raises:
    UsageError: a function was not compiled, or does not fit.
  """
  for result in results:
    if result.seconds is None:
      raise errors.UsageError(
        f'--rates: the times of {result.source} are not known, for want of a '
        'compiled training step, evaluation or gradient that fits; see above.'
      )
  topology = results[0].topology
  machine = planned.Machine(
    f'the roofline of {topology.name}, {results[0].precision}; {NEVER_RUN}',
    devices=topology.chips,
    lower_bound=True,
  )
  return planned.as_json(
    machine,
    {r.source: estimates.rates(r.seconds, topology.chips) for r in results},
  )


def failures(results: Sequence[Result]) -> str:
  """Returns one sentence that names all that failed, empty if nothing did."""
  failed = [
    f'{outcome.name} on {result.topology.name} ({outcome.error})'
    for result in results
    for outcome in result.errors
  ]
  return f'not made for TPUs: {"; ".join(failed)}.' if failed else ''
