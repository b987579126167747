"""Both steps, and captum's estimators, on an accelerator without TensorFlow.

Here, where TensorFlow is, on any CPU (about five minutes):

    python benchmarks/accelerator.py export DIR

There, after the checkout and DIR, of less than 40 MB, were copied, with JAX and
NumPy, and PyTorch for captum (less than eight minutes):

    python benchmarks/accelerator.py run DIR --table=docs/accelerator.md

It runs the programs in the order of their importance: those whose results are
compared with TensorFlow's; the training step and the gradients of ResNet-50 at
224 x 224, over a range of batches, in float32 and bfloat16, as roar_tf makes
them and as anyone would write them; all 15 estimators; the small ResNet. Then
captum's twelve, on the same card. Weights are made there. What does not fit
into `--budget` is left out, and the table says so.

`--smallest` makes an export for two cores of a CPU, to prove the way.
"""

import argparse
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # There, nothing is installed.
  sys.path.insert(0, str(ROOT))

from roar_tf.preflight import chips  # noqa: E402

PROGRAMS, WHEELS, SETTINGS = 'programs', 'wheels', 'settings.json'
MOST_BYTES = 40e6
CARRIED = ('captum==0.9.0', 'absl-py', 'tqdm')
"""Pure wheels, which Python imports as they are."""
CAPTUM_SHARE = 0.2
"""Of the budget."""


# --- here ---------------------------------------------------------------------


def _exportables(smallest: bool):
  """Yields the programs, the most important ones first."""
  from roar_tf.preflight import exportable

  compared = list(exportable.comparisons())
  if smallest:
    yield from compared[:1]
    yield from _trials('small ResNet', (16, 16, 3), 10, (2, 4), 4, 4)
    return
  deep = [each for each in compared if 'ResNet-50' in each.name]
  yield from (each for each in compared if each not in deep)
  yield from _trials(
    'ResNet-50', (224, 224, 3), 1000, (128, 32, 256, 512), 8, 128
  )
  yield from deep
  yield from _trials('small ResNet', (28, 28, 1), 10, (128, 1024), 64, 1024)


def _trials(name: str, shape, classes: int, batches, images: int, rows: int):
  """Yields both steps of a model.

  Args:
    name: of the model.
    shape: of its images.
    classes: of its logits.
    batches: of steps and gradients; variants have the first.
    images: that all estimators explain in one call.
    rows: gradients per call of the model then.
  """
  import variants

  from roar_tf.estimators import Plan, Settings
  from roar_tf.models import precision as precisions
  from roar_tf.models import resnet
  from roar_tf.preflight import attribution, exportable, training
  from roar_tf.preflight.device_function import DeviceFunction
  from roar_tf.preflight.subject import PAPER
  from roar_tf.training.settings import Training

  factory = resnet.resnet50 if name == 'ResNet-50' else resnet.small_resnet
  augmentation = 'resized_crop_flip' if name == 'ResNet-50' else 'flip'

  @functools.cache
  def model(precision):
    with precisions.computing_in(precision):
      return factory(shape, classes)

  def step(precision, batch):
    how = Training(
      model=factory,
      epochs=90,
      batch_size=batch,
      base_learning_rate=0.1,
      augmentation=augmentation,
      precision=precision,
    )
    return training.training_step(model(precision), how, shape, 10**6, batch)

  def gradients(precision, batch):
    return attribution.gradient_evaluations(model(precision), shape, batch)

  def expanded(*where):
    return lambda *what: variants.expanded_in(step(*what), *where)

  def plain(precision, batch):
    return variants.plain_gradients(model(precision), shape, batch)

  settings = Settings(batch_size=rows)

  def all_estimators(precision, batch):
    return attribution.attribution(
      model(precision), PAPER, settings, shape, batch
    )

  def described(what, group, precision, batch, build, loops=False):
    each = Plan(PAPER, settings).gradient_evaluations if loops else 1
    return exportable.Exportable(
      DeviceFunction(
        f'{name}, {what}',
        group,
        batch,
        functools.partial(build, precision),
        loops,
      ),
      '',
      precision,
      classes,
      batch * each,
    )

  first, *others = batches
  for precision in ('bfloat16', 'float32'):
    yield described('training step', 'training', precision, first, step)
    yield described('gradients', 'attribution', precision, first, gradients)
  for precision in ('bfloat16', 'float32'):
    yield described(
      'all 15 estimators',
      'attribution',
      precision,
      images,
      all_estimators,
      True,
    )
  for precision in ('bfloat16', 'float32'):
    yield described(
      'gradients, not folded', 'attribution', precision, first, plain
    )
  # What roar_tf does in one precision, and does not in the other.
  yield described(
    'training step, not expanded', 'training', 'bfloat16', first, expanded()
  )
  yield described(
    'training step, expanded', 'training', 'float32', first, expanded('float32')
  )
  for batch in others:
    for precision in ('bfloat16', 'float32'):
      yield described('training step', 'training', precision, batch, step)
      yield described('gradients', 'attribution', precision, batch, gradients)


def export(folder: pathlib.Path, smallest: bool) -> None:
  """Writes everything that is carried."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  from roar_tf.preflight import export as exports

  say = functools.partial(print, flush=True)
  folder.mkdir(parents=True, exist_ok=True)
  exports.write(
    str(folder / PROGRAMS), _exportables(smallest), say=lambda name: say(name)
  )
  pip = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps']
  done = subprocess.run(
    [*pip, '--only-binary=:all:', f'--dest={folder / WHEELS}', *CARRIED]
  )
  if done.returncode:
    say('captum cannot be downloaded; it will be left out.')
  captum = {'image_size': 224, 'images': 8, 'batch_size': 128}
  if smallest:
    captum = {'image_size': 32, 'images': 1, 'batch_size': 8}
  (folder / SETTINGS).write_text(json.dumps({'captum': captum}))
  size = sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())
  say(f'{size / 1e6:.1f} MB in {folder}.')
  if size > MOST_BYTES:
    sys.exit(f'More than {MOST_BYTES / 1e6:.0f} MB: too much to carry.')


# --- there --------------------------------------------------------------------


def run(folder: pathlib.Path, budget: float, table: str | None) -> int:
  """Runs everything, prints a table, and returns the exit status."""
  if not (folder / SETTINGS).exists():
    sys.exit(f'{folder} was not made by `accelerator.py export`.')
  end = time.monotonic() + budget
  with tempfile.TemporaryDirectory() as work:
    programs, status = _run_programs(
      folder, pathlib.Path(work), budget * (1 - CAPTUM_SHARE)
    )
    captum, why_not = _run_captum(
      folder, pathlib.Path(work), programs, end - time.monotonic()
    )
  text = _table(programs, captum, why_not, status)
  print(f'\n{text}')
  if table:
    pathlib.Path(table).write_text(text, encoding='utf-8')
  return status


def _limited(command, seconds: float, environment=None) -> str | None:
  """Runs a command in the checkout; returns what went wrong, or None."""
  variables = {**os.environ, **(environment or {})}
  process = subprocess.Popen(
    command, cwd=ROOT, env=variables, start_new_session=True
  )
  try:
    status = process.wait(max(1.0, seconds))
  except subprocess.TimeoutExpired:
    # With those that it has started, which would keep the device.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return f'it was stopped after {seconds:.0f} seconds'
  return f'exit status {status}' if status else None


def _run_programs(folder, work, seconds: float):
  found = work / 'programs.json'
  command = [sys.executable, '-m', 'roar_tf.preflight.execute']
  command += [str(folder.resolve() / PROGRAMS), f'--json={found}']
  # The last program may take longer than those before it.
  failed = _limited([*command, f'--budget={seconds * 0.9:.0f}'], seconds)
  if not found.exists():
    sys.exit(f'No program ran: {failed}.')
  return json.loads(found.read_text()), 1 if failed else 0


def _run_captum(folder, work, programs: dict, seconds: float):
  """Returns what captum measured, and why it did not."""
  wheels = [str(path) for path in (folder.resolve() / WHEELS).glob('*.whl')]
  path = os.pathsep.join([*wheels, os.environ.get('PYTHONPATH', '')])
  device = 'cuda' if programs['platform'] in ('gpu', 'cuda') else 'cpu'
  if programs['platform'] == 'tpu':
    return None, 'PyTorch knows no TPU'
  environment = {'PYTHONPATH': path.rstrip(os.pathsep)}
  for name in ('torch', 'captum', 'absl', 'tqdm'):
    test = (
      f'import importlib.util as u, sys; sys.exit(not u.find_spec({name!r}))'
    )
    if _limited([sys.executable, '-c', test], 60, environment):
      return None, f'{name} is not there'
  found = work / 'captum.json'
  settings = json.loads((folder / SETTINGS).read_text())['captum']
  command = [sys.executable, str(ROOT / 'benchmarks/peers.py')]
  command += ['--libraries=captum', '--repeats=1', f'--device={device}']
  command += [f'--json={found}', f'--budget={seconds * 0.7:.0f}']
  command += [f'--{name}={value}' for name, value in settings.items()]
  failed = _limited(command, seconds, environment)
  if not found.exists():
    return None, failed
  return json.loads(found.read_text())['captum'], None


# --- the table ----------------------------------------------------------------


def _table(programs: dict, captum: dict | None, why_not, status: int) -> str:
  """Returns everything that was measured, as markdown."""
  peaks = chips.peaks(programs['device'])
  versions = programs['made_by']
  lines = [
    f'# {programs["device"]}',
    '',
    f'`python benchmarks/accelerator.py`, {time.strftime("%Y-%m-%d")}: '
    f'programs that TensorFlow {versions["tensorflow"]} exported (StableHLO '
    f'{programs["stablehlo"]}), run under JAX {programs["jax"]} '
    f'({programs["platform"]}). TensorFlow itself did not run there.',
    '',
  ]
  if peaks:
    flops = ', '.join(
      f'{value / 1e12:g} TFLOP/s in {name}'
      for name, value in peaks.flops.items()
    )
    lines += [
      f'Published peaks: {flops}; {peaks.bandwidth / 1e9:,.0f} GB/s.',
      '',
    ]
  lines += [
    '| program | batch | ms (quartiles) | per second | TFLOP/s | GB/s | from '
    'TensorFlow |',
    '| --- | ---: | ---: | ---: | ---: | ---: | ---: |',
    *(_row(program, peaks) for program in programs['programs']),
    '',
  ]
  if programs['left_out']:
    lines += [f'Left out: {"; ".join(programs["left_out"])}.', '']
  if status:
    lines += ['Not everything ran, or agreed: see above.', '']
  lines += [*_captum_lines(programs, captum, why_not), '']
  return '\n'.join(lines)


def _row(program: dict, peaks) -> str:
  name = f'| {program["name"]} | {program["batch"]:,} '
  if program['seconds'] is None:
    return f'{name}| {program["error"]} | | | | |'
  low, median, high = program['seconds']
  cells = [
    f'{1e3 * median:.3g} ({1e3 * low:.3g}..{1e3 * high:.3g})',
    f'{program["work"] / median:,.0f} {program["unit"]}',
  ]
  limits = (None, None)
  if peaks:
    limits = peaks.flops.get(program['precision']), peaks.bandwidth
  for key, limit, unit in zip(
    ('flops', 'bytes_accessed'), limits, (1e12, 1e9), strict=True
  ):
    rate = program[key] and program[key] / median
    share = f' ({rate / limit:.0%})' if rate and limit else ''
    cells.append(f'{rate / unit:,.4g}{share}' if rate else '-')
  apart = program['difference']
  agrees = '' if program['agrees'] in (None, True) else ' **differs**'
  cells.append('-' if apart is None else f'{apart:.1e}{agrees}')
  return f'{name}| {" | ".join(cells)} |'


def _captum_lines(programs: dict, captum: dict | None, why_not) -> list[str]:
  if captum is None:
    return [f'captum was left out: {why_not}.']
  seconds = captum['seconds_per_image']
  each = ', '.join(f'{name} {value:.3g}' for name, value in seconds.items())
  total = sum(seconds.values())
  size = captum['image_size']
  left_out = 12 - len(seconds)
  line = (
    f'captum, ResNet-50 in float32 at {size} x {size}, {captum["images"]} '
    f'image(s) in a call and up to {captum["batch_size"]} gradients at once, '
    f'seconds per image: {each}; {total:.3g} together.'
  )
  if left_out:
    return [f'{line} {left_out} of its twelve were left out for want of time.']
  ours = {
    program['precision']: program['seconds'][1] / program['batch']
    for program in programs['programs']
    if program['name'].startswith('ResNet-50, all 15') and program['seconds']
  }
  for precision, value in ours.items():
    line += (
      f' All 15 of roar_tf in {precision}: {value:.3g}, {total / value:.1f} '
      'times as fast.'
    )
  return [line]


def main() -> int:
  """Exports or runs."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('action', choices=('export', 'run'))
  parser.add_argument('directory', type=pathlib.Path)
  parser.add_argument('--smallest', action='store_true', help='For a CPU.')
  parser.add_argument(
    '--budget', type=float, default=450, help='Seconds for everything.'
  )
  parser.add_argument('--table', help='File for the table.')
  given = parser.parse_args()
  if given.action == 'export':
    export(given.directory, given.smallest)
    return 0
  return run(given.directory, given.budget, given.table)


if __name__ == '__main__':
  sys.exit(main())
