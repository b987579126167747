"""Synthetic studies of any size, with curves like those of real ones."""

import itertools

import numpy as np
import pandas as pd

from roar_tf.analysis import contrasts, judging, mosaics, results, statistics
from roar_tf.analysis.evidence import Evidence

PAPER = (
  'random',
  'sobel',
  *(
    f'{prefix}{base}'
    for prefix in ('', 'sq_', 'sg_', 'sg_sq_', 'var_')
    for base in ('grad', 'gb', 'ig')
  ),
  'sq_sg_grad',
)
THRESHOLDS = (10, 30, 50, 70, 90)


def runs(cells, seeds=1, spread=0.0, source='digits', **changes):
  """Returns a frame with runs of a few cells, told in short.

  Args:
    cells: (estimator, mode, threshold, mean) of each; granularity, fill and
      input may follow.
    seeds: how many runs each cell has.
    spread: by how much the accuracies of following seeds differ.
    source: the source.
    **changes: other columns.
  """
  rows = []
  for estimator, mode, threshold, mean, *others in cells:
    granularity, fill, input = others or ('pixel', 'mean', 'image')
    granularity = granularity if mode else ''
    for seed in range(seeds):
      accuracy = mean + spread * (seed - (seeds - 1) / 2)
      cell = (estimator, granularity, mode, threshold, fill, input)
      numbers = (seed, accuracy, 0.95, 100, 1000, 1.0, 0, 'plain', 0)
      rows.append(('study', source, *cell, *numbers))
  return pd.DataFrame(rows, columns=list(results.COLUMNS)).assign(**changes)


def frame(
  sources=('digits',),
  modes=('remove',),
  estimators=('random', 'sobel', 'grad', 'sg_sq_grad'),
  seeds=5,
  fills=('mean',),
  granularities=('pixel',),
  deletion=False,
  maskonly=0,
  sd=0.004,
) -> pd.DataFrame:
  """Returns the runs of a study; the same arguments, the same runs."""
  rng = np.random.default_rng(0)
  rows = []
  for source in sources:

    def add(cell, fill, input, seed, mean, source=source, sd=sd):
      accuracy = float(np.clip(rng.normal(mean, sd), 0, 1))
      accuracy = round(accuracy * 25250) / 25250
      numbers = (accuracy, min(1.0, accuracy + 0.1), 20000, 25250)
      more = float(rng.uniform(8000, 9000)), 0, 'plain', 0
      rows.append(('study', source, *cell, fill, input, seed, *numbers, *more))

    for seed in range(2 * seeds):
      add(('original', '', '', 0), 'mean', 'image', seed, 0.85)
    for estimator, granularity, mode, t, fill in itertools.product(
      estimators, granularities, modes, THRESHOLDS, fills
    ):
      gone = t / 100 if mode == 'remove' else 1 - t / 100
      strength = _strength(estimator) * (1 if mode == 'remove' else -0.4)
      strength += 0.02 * fills.index(fill)
      mean = 0.85 - 0.25 * gone**3 - strength * gone * (1.6 - gone)
      cell = (estimator, granularity, mode, t)
      for seed in range(seeds):
        add(cell, fill, 'image', seed, mean)
      if deletion:
        tested = 0.85 * (1 - gone) ** 3 - 0.05 * strength
        add(cell, fill, 'deletion', 0, tested)
      if mode == modes[0] and fill == fills[0]:
        leak = 0.01 if estimator == 'random' else 0.01 + abs(strength) / 4
        for seed in range(maskonly):
          add(cell, fill, 'maskonly', seed, leak, sd=0.0003)
    if deletion:
      add(('original', '', '', 0), 'mean', 'deletion', 0, 0.85)
  return pd.DataFrame(rows, columns=list(results.COLUMNS))


def judged(frame, *options, **more):
  """Returns the evidence of a study's runs, and the verdicts on it.

  Args:
    frame: the runs.
    *options: of `Evidence`, behind its frame.
    **more: the same by name.
  """
  evidence = Evidence(frame, *options, **more)
  return evidence, judging.judge(evidence)


def computed(frame, *options, **more) -> pd.DataFrame:
  """Returns all statistics of a study's runs; arguments as for `judged`."""
  evidence, verdicts = judged(frame, *options, **more)
  return statistics.compute(
    evidence,
    verdicts,
    contrasts.planned(evidence, verdicts),
    contrasts.consistency(evidence),
  )


def verdicts_by_name(frame, mode='remove', **more):
  """Returns the verdicts of one mode by the labels; see `judged`."""
  _, verdicts = judged(frame, **more)
  return {v.label: v for v in verdicts if v.curve.mode == mode}


def examples(estimators, size=28, channels=3, count=3) -> list[mosaics.Example]:
  """Returns images of noise with a square, masked at random."""
  rng = np.random.default_rng(1)
  found = []
  for i in range(count):
    image = rng.integers(0, 256, (size, size, channels), np.uint8)
    image[size // 4 : size // 2, size // 4 + 2 * i : size // 2 + 2 * i] = 200
    order = rng.permutation(size * size).reshape(size, size, 1)
    masked = {
      (estimator, t): np.where(
        np.roll(order, j) < size * size * t // 100, np.uint8(127), image
      )
      for j, estimator in enumerate(estimators)
      for t in THRESHOLDS
    }
    found.append(mosaics.Example(image, masked))
  return found


def statistics_of(folder) -> pd.DataFrame:
  """Reads the statistics.csv of a report, to the last digit."""
  path = folder / 'statistics.csv'
  table = pd.read_csv(path, dtype=str, na_filter=False)
  for column in ('threshold', 'value', 'low', 'high', 'runs', 'look', 'spent'):
    table[column] = [float(text or 'nan') for text in table[column]]
  return table.astype(dict.fromkeys(('threshold', 'runs', 'look'), 'Int64'))


def _strength(estimator: str) -> float:
  if estimator == 'random':
    return 0.0
  known = {
    'oracle': 0.55,
    'inverse_oracle': -0.2,
    'sobel': 0.02,
  }
  if estimator in known:
    return known[estimator]
  base = {'grad': 0.0, 'gb': 0.01, 'ig': -0.01}
  extra = next((v for k, v in base.items() if estimator.endswith(k)), 0.005)
  for prefix, value in (
    ('sg_sq_', 0.3),
    ('var_', 0.28),
    ('sq_', 0.03),
    ('sg_', -0.09),
    ('blur_', -0.01),
    ('max_', 0.01),
  ):
    if estimator.startswith(prefix):
      return value + extra
  return -0.06 + extra
