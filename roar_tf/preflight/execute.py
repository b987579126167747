"""Runs exported programs on whatever device JAX has: CPU, GPU or TPU.

    python -m roar_tf.preflight.execute DIR [--rates=FILE] [--json=FILE]

Needs JAX and NumPy, and neither TensorFlow nor Keras. It compiles the programs
that `roar_preflight --export=DIR` wrote, compares the results of the small ones
with TensorFlow's, and prints for each how long a call takes, what it computes
and moves in a second, and which share that is of the chip's published peaks.
Exit status 1 if a result differs or a program does not run.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from roar_tf import errors
from roar_tf.engine import files
from roar_tf.preflight import chips, running, times
from roar_tf.preflight import manifest as manifests
from roar_tf.preflight.running import Measured
from roar_tf.study import rates

_HEADER = (
  f'{"program":<58}{"batch":>6}{"ms":>10}{"quartiles":>22}{"per s":>11}'
  f' {"":<10}{"TFLOP/s":>16}{"GB/s":>16}  compared'
)
_LEGEND = """
ms: median of one call. Operations and bytes are the compiler's counts; -: the
program loops, and the compiler counts the body of a loop once. In brackets the
share of the chip's published peak, where it is known. compared: the largest
difference from TensorFlow's results, over the largest element of a result."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs what the command line asks for; returns the exit status."""
  parser = argparse.ArgumentParser(
    'python -m roar_tf.preflight.execute',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('directory', metavar='DIR', help='An export.')
  parser.add_argument(
    '--rates', help='File for what roar_study --dry_run --rates=FILE reads.'
  )
  parser.add_argument('--json', help='File for everything that was measured.')
  parser.add_argument(
    '--seconds', type=float, default=2.0, help='In which a program is timed.'
  )
  parser.add_argument(
    '--budget',
    type=float,
    help='Seconds for everything: programs that would exceed it are left out.',
  )
  given = parser.parse_args(arguments)
  try:
    execute(
      given.directory,
      rates_file=given.rates,
      json_file=given.json,
      seconds=given.seconds,
      budget=given.budget,
    )
  except errors.RoarError as e:
    print(f'execute: {e}', file=sys.stderr)
    return e.exit_status
  return 0


def execute(
  folder: str,
  *,
  rates_file: str | None = None,
  json_file: str | None = None,
  seconds: float = 2.0,
  budget: float | None = None,
) -> None:
  """Runs an export and prints a row per program as soon as it has run.

  Args:
    folder: the export.
    rates_file: see `--rates`.
    json_file: see `--json`; written anew after each program.
    seconds: in which a program is timed.
    budget: seconds for everything; None for no limit.

  Raises:
    UsageError: JAX is missing, the folder is no export, this JAX cannot read
      it, or rates were asked for that it cannot tell.
    DataError: a file of the export is damaged.
    UnitsFailedError: results differ from TensorFlow's, or a program failed.
  """
  start = time.perf_counter()
  manifest = manifests.read(folder)
  if rates_file and not manifest.explains:
    raise errors.UsageError(
      f'--rates: {folder} holds no experiment; export one by '
      '`roar_preflight --export=DIR --study=NAME`.'
    )
  kind, platform, version = _device()
  peaks = chips.peaks(kind)
  print(
    f'{kind} ({platform}), JAX {version}; StableHLO {manifest.stablehlo} made '
    f'by TensorFlow {manifest.versions.get("tensorflow")}. {_told(peaks)}\n'
    f'\n{_HEADER}'
  )
  measured, left_out = [], []

  def save() -> None:
    if json_file:
      value = _as_json(manifest, kind, platform, version, measured, left_out)
      files.publish_json(os.path.abspath(json_file), value)

  for program in manifest.programs:
    called = f'{program.name} (batch {program.batch})'
    # As long as those before it have taken on average, if there were any.
    spent = time.perf_counter() - start
    if budget is not None and spent * (1 + 1 / max(1, len(measured))) > budget:
      left_out.append(called)
      continue
    if platform == 'tpu' and program.precision == 'float64':
      left_out.append(called)  # TPUs have no such numbers.
      continue
    measured.append(running.run(folder, program, seconds))
    print(_row(measured[-1], peaks), flush=True)
    save()
  save()
  print(_LEGEND)
  if left_out:
    print(f'Left out, for want of time or of float64: {"; ".join(left_out)}.')
  if failures := _failures(measured):
    raise errors.UnitsFailedError(failures)
  if rates_file:
    value = _as_rates(manifest, measured, kind)
    files.publish_json(os.path.abspath(rates_file), value)


def _device() -> tuple[str, str, str]:
  """Returns the kind and platform of JAX's first device, and JAX's version."""
  try:
    import jax
  except ModuleNotFoundError as e:
    raise errors.UsageError(
      'JAX is not installed: `pip install jax` for CPUs, or as '
      'https://docs.jax.dev/en/latest/installation.html says for GPUs and TPUs.'
    ) from e
  # Steps are counted by int64, and half of the comparisons are in float64.
  jax.config.update('jax_enable_x64', True)
  try:
    device = jax.devices()[0]
  except RuntimeError as e:
    raise errors.UsageError(
      f'JAX finds no device: {str(e).splitlines()[0]}'
    ) from e
  return device.device_kind, device.platform, jax.__version__


def _told(peaks: chips.Peaks | None) -> str:
  if peaks is None:
    return 'No published peaks are known of it.'
  flops = ', '.join(f'{v / 1e12:g} {n}' for n, v in peaks.flops.items())
  return f'Published peaks: {flops} TFLOP/s, {peaks.bandwidth / 1e9:,.0f} GB/s.'


def _row(measured: Measured, peaks: chips.Peaks | None) -> str:
  program = measured.program
  name = f'{program.name:<58}{program.batch:>6}'
  if measured.seconds is None:
    return f'{name}  {measured.error}'
  low, median, high = (f'{1e3 * value:.3f}' for value in measured.seconds)
  flops, bytes_ = (
    value and value / measured.median
    for value in (measured.flops, measured.bytes_accessed)
  )
  most = peaks.flops.get(program.precision) if peaks else None
  row = (
    f'{name}{median:>10}{f"{low}..{high}":>22}'
    f'{program.work / measured.median:>11,.0f} {program.unit:<10}'
    f'{_share(flops, most, 1e12):>16}'
    f'{_share(bytes_, peaks and peaks.bandwidth, 1e9):>16}'
  )
  if measured.difference is None:
    return row
  verdict = '' if measured.agrees else f' DIFFERS at {measured.worst}'
  return f'{row}  {measured.difference:.1e}{verdict}'


def _share(value: float | None, peak: float | None, unit: float) -> str:
  if value is None:
    return '-'
  share = f' ({value / peak:.0%})' if peak else ''
  return f'{value / unit:,.4g}{share}'


def _failures(measured: Sequence[Measured]) -> str:
  """Returns one sentence of what differs or failed, empty if nothing did.

  A program that is too large for a device is no failure.
  """
  differing = [
    f"{m.program.name}: {m.worst} differs from TensorFlow's by "
    f'{m.difference:.2g} of its largest element, more than '
    f'{m.program.example.tolerance:g}'
    for m in measured
    if m.agrees is False
  ]
  failed = [
    f'{m.program.name} does not run ({m.error})'
    for m in measured
    if m.error and m.error != running.TOO_LARGE
  ]
  return '; '.join(differing + failed) + '.' if differing or failed else ''


def _as_json(manifest, kind, platform, version, measured, left_out) -> dict:
  return {
    'device': kind,
    'platform': platform,
    'jax': version,
    'made_by': manifest.versions,
    'stablehlo': manifest.stablehlo,
    'left_out': left_out,
    'programs': [_values(each) for each in measured],
  }


def _values(measured: Measured) -> dict:
  program = measured.program
  about = ('name', 'source', 'function', 'precision', 'batch', 'work', 'unit')
  found = ('seconds', 'flops', 'bytes_accessed', 'compiling')
  found += ('difference', 'worst', 'agrees', 'error')
  return {n: getattr(program, n) for n in about} | {
    n: getattr(measured, n) for n in found
  }


def _as_rates(manifest, measured: Sequence[Measured], kind: str) -> dict:
  """Returns what `roar_study --dry_run --rates=FILE` reads.

  Raises:
    UsageError: a program that it takes has not run.
  """
  found = {}
  for source, explains in manifest.explains.items():
    of_source = [m for m in measured if m.program.source == source]
    seconds = {
      m.program.function: m.median and (m.median, m.program.work)
      for m in of_source
    }
    shared = {m.program.chips for m in of_source}
    found[source] = times.rates(seconds, max(shared, default=1), explains)
    if found[source] is None:
      raise errors.UsageError(
        f'--rates: the times of {source} are not known, for want of a training '
        'step, evaluation or gradient that ran; see above.'
      )
  devices = max(m.program.chips for m in measured if m.program.source)
  exchange = '; what they exchange is not in it' if devices > 1 else ''
  machine = rates.Machine(
    f'measured under JAX on one {kind}{exchange}', devices, lower_bound=False
  )
  return rates.as_json(machine, found)


if __name__ == '__main__':
  sys.exit(main())
