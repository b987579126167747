"""How often intervals cover, tests err and effects are found, by simulation.

    python benchmarks/confidence.py [--studies=40000]

Simulated studies have 16 estimators and a random that all share, 5 seeds of
each of 5 thresholds, 10 of `original`. The accuracy of a run is normal around
its cell's mean; half of its variance is the seed's, the same at all thresholds,
so that the cells of one seed vary together. SDs are in points, of a *cell*. Of
an area they are smaller, since thresholds average out in part, so power is also
told for areas that have an SD themselves.

Prints Markdown tables: the coverage of nominal 95 % intervals; the share of
studies in which Holm's test finds anything although all estimators equal
random; and the power at 2 points, as simulated and as `inference.Power` tells.
It is not called statistics.py: beside the other benchmarks that would hide
Python's own module of that name, which TFDS imports.
"""

import numpy as np
from absl import app, flags

from roar_tf.analysis import curves, inference

FLAGS = flags.FLAGS
flags.DEFINE_integer('studies', 40_000, 'Simulated studies.', lower_bound=100)

ESTIMATORS = 16
SEEDS = 5
ORIGINAL_SEEDS = 10
THRESHOLDS = (10, 30, 50, 70, 90)
CHANCE = 0.1
POINTS = 0.02
# Accuracies at original and at the thresholds; random on Food-101, Table 2.
ORIGINAL = 0.845
RANDOM = np.array([0.807, 0.783, 0.758, 0.730, 0.684])
# Of all spans of the shares that are gone, from 0 to 10 to ... to 90 %.
FIRST, _PARTS = curves.weights(THRESHOLDS, 'remove')
PARTS = np.array([_PARTS[t] for t in THRESHOLDS])


def runs(generator, shape, sd: float, thresholds: int) -> np.ndarray:
  """Returns deviations of accuracies [*shape, seeds, thresholds]."""
  own = generator.standard_normal((*shape, thresholds))
  seed = generator.standard_normal((*shape, 1))
  return sd * (own + seed) / np.sqrt(2)


def mean_of(values: np.ndarray) -> tuple[np.ndarray, ...]:
  """Returns mean, its variance and degrees of freedom over the last axis."""
  sd = values.std(-1, ddof=1)
  return values.mean(-1), *inference.of_mean(sd, values.shape[-1])


def simulate(
  studies: int,
  sds: np.ndarray,
  sd_random: float,
  effects: np.ndarray,
  noise: int = 0,
) -> dict[str, np.ndarray]:
  """Returns what simulated studies find of their estimators.

  Args:
    studies: how many.
    sds: of every estimator's cells [estimators], fractions.
    sd_random: of random's and of original's cells.
    effects: by how much each estimator's cells lie below random's
      [estimators], fractions.
    noise: seed of the simulation.

  Returns:
    p [studies, estimators] of the areas, and for the cells of the last
    threshold (`accuracy`), for `area` and `racu` whether intervals cover the
    truth [studies, estimators]; ratios without a finite interval do not.
  """
  generator = np.random.default_rng(noise)
  k = len(THRESHOLDS)
  original = mean_of(
    ORIGINAL + sd_random * generator.standard_normal((studies, ORIGINAL_SEEDS))
  )
  random = RANDOM + runs(generator, (studies, SEEDS), sd_random, k)
  random = [x[:, None] for x in mean_of(random @ PARTS)]
  shape = (studies, len(sds), SEEDS)
  own = runs(generator, shape, sds[:, None, None], k)
  own += RANDOM - effects[:, None, None]
  cell = mean_of(own[..., -1])
  half = inference.half_width(np.sqrt(cell[1]), cell[2])
  found = {'accuracy': abs(cell[0] - (RANDOM[-1] - effects)) <= half}
  own = mean_of(own @ PARTS)
  error, freedom = inference.combined([random[1], own[1]], [random[2], own[2]])
  area = random[0] - own[0]
  true = effects * PARTS.sum()
  half = inference.half_width(error, freedom)
  found['area'] = abs(area - true) <= half
  found['p'] = inference.p_value(area, error, freedom)
  terms = (random, own, [x[:, None] for x in original])
  _, low, high = inference.ratio(
    (1, -1, 0), (1, 0, FIRST), *zip(*terms, strict=True), -CHANCE
  )
  true = true / (FIRST * ORIGINAL + PARTS @ RANDOM - CHANCE)
  found['racu'] = (low <= true) & (true <= high)
  return found


def errs(p: np.ndarray) -> float:
  """Returns the share of studies [studies, tests] whose Holm test rejects.

  Holm's first step decides it: the smallest p against LEVEL / tests.
  """
  return float((p.min(1) <= inference.LEVEL / p.shape[1]).mean())


def area_sd(sd: float) -> float:
  """Returns the SD of a seed's area whose cells have this SD."""
  shared, alone = PARTS.sum() ** 2, (PARTS**2).sum()
  return sd * float(np.sqrt((shared + alone) / 2))


def told(sd: float, tests: int = ESTIMATORS) -> tuple[float, float]:
  """Returns power at `POINTS` and the detectable area, at SDs of areas."""
  variance, freedom = inference.of_mean(sd, SEEDS)
  power = inference.Power(
    (variance, variance), (freedom, freedom), inference.LEVEL / tests
  )
  return power.of(POINTS), power.detectable()


def main(_) -> None:
  """Prints the tables."""
  studies = FLAGS.studies
  nothing = np.zeros(ESTIMATORS)
  print('| SD of cells: random, estimators | accuracy | area | RACU | errs |')
  print('| :-- | --: | --: | --: | --: |')
  for sd_random, low, high in (
    (0.35, 0.35, 0.35),
    (1.2, 1.2, 1.2),
    (0.35, 0.35, 1.2),
    (0.35, 0.7, 0.7),
    (1.2, 0.35, 0.35),
    (0.35, 1.2, 1.2),
  ):
    sds = np.linspace(low, high, ESTIMATORS) / 100
    effects = np.linspace(-0.05, 0.3, ESTIMATORS)
    covered = simulate(studies, sds, sd_random / 100, effects)
    null = simulate(studies, sds, sd_random / 100, nothing, noise=1)
    shares = [covered[key].mean() for key in ('accuracy', 'area', 'racu')]
    shares = ' | '.join(f'{share:.2%}' for share in shares)
    spread = f'{low}' if low == high else f'{low} to {high}'
    print(f'| {sd_random}, {spread} | {shares} | {errs(null["p"]):.2%} |')
  print()
  print('| SD | of | power told | simulated | detectable, points |')
  print('| --: | :-- | --: | --: | --: |')
  one = np.zeros(ESTIMATORS)
  one[0] = POINTS / PARTS.sum()  # An area of two points.
  for sd in (0.2, 0.35, 0.5, 0.7, 1.0, 1.2):
    for kind, scale in (('areas', area_sd(1)), ('cells', 1.0)):
      of_cells = sd / scale / 100
      sds = np.full(ESTIMATORS, of_cells)
      p = simulate(studies // 4, sds, of_cells, one, noise=2)['p'][:, 0]
      found = (p <= inference.LEVEL / ESTIMATORS).mean()
      power, detectable = told(area_sd(of_cells))
      numbers = f'{power:.1%} | {found:.1%} | {100 * detectable:.2f}'
      print(f'| {sd} | {kind} | {numbers} |')


if __name__ == '__main__':
  app.run(main)
