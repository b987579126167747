"""How often intervals cover, verdicts err, and what a verdict costs.

    python benchmarks/confidence.py [--studies=20000]

Simulated studies judge the 39 curves of the paper's Table 2 in mode `remove`
(3 datasets x 13 estimators) through the product's own `arms.half_width` and
`verdict.decide`. The accuracy of a run is normal around Table 2's; half of its
variance is the seed's, the same at all thresholds. Test images add an error to
each lead, which is the same for all seeds and looks: paired differences of one
image have an SD of 25 points, and there are as many images as in the dataset.

The fixed design is the paper's: 5 seeds x 5 thresholds. The sequential one is
that of `Study.design`: nodes 30 and 70 %, 12 seeds of random, and looks at 3 to
14 seeds. A comparison is clear where Table 2's own lead is a point or more; of
39 there are 36.

Prints Markdown tables: the coverage of pointwise 95 % intervals of a lead from
5 seeds; for each design and SD of a run the trainings, the clear comparisons
that are right, the studies in which all are, and in which any decided one is
contradicted; and the family-wise error where all estimators equal random, with
unequal SDs, and with runs of a t distribution of 3 degrees of freedom.
"""

import dataclasses

import numpy as np
from absl import app, flags

from roar_tf.analysis import arms, curves, inference, paper, verdict
from roar_tf.study.grid import Study

FLAGS = flags.FLAGS
flags.DEFINE_integer('studies', 20_000, 'Simulated studies.', lower_bound=100)

THRESHOLDS = (10, 30, 50, 70, 90)
_PARTS = curves.of_lead(THRESHOLDS, 'remove')
AREA = np.array([_PARTS[t] for t in THRESHOLDS])
TEST_IMAGES = {'birdsnap': 2443, 'food101': 25250, 'imagenet2012': 50000}
IMAGE_SD = 0.25
MARGIN = 0.01


@dataclasses.dataclass(frozen=True)
class Design:
  """How a study is made.

  Attributes:
    nodes: the thresholds.
    looks: seeds of an estimator at each look.
    spending: share of the level of each look.
    random_seeds: seeds of random.
  """

  nodes: tuple[int, ...]
  looks: tuple[int, ...]
  spending: tuple[float, ...]
  random_seeds: int

  @property
  def weights(self) -> np.ndarray:
    """The weights of the nodes in a lead."""
    by_looks = len(self.looks) > 1
    parts = curves.of_lead(self.nodes, 'remove', by_looks)
    return np.array([parts[t] for t in self.nodes])


FIXED = Design(THRESHOLDS, (5,), (1.0,), 5)
_SEQUENTIAL = Study('s', ('x',), ('random', 'grad'), design='sequential')
SEQUENTIAL = Design(
  (30, 70),
  _SEQUENTIAL.looks,
  _SEQUENTIAL.spending,
  _SEQUENTIAL.seeds_of(next(_SEQUENTIAL.cells())),
)


def table() -> tuple[list[str], np.ndarray]:
  """Returns the sources and accuracies [sources, 1 + estimators, thresholds].

  Random comes first.
  """
  cells = paper.table_2()
  cells = cells[cells['mode'] == 'remove']
  names = ['random', *(n for n in paper.estimators() if n != 'random')]
  wide = cells.pivot(
    index=['source', 'estimator'], columns='threshold', values='accuracy'
  )
  sources = list(TEST_IMAGES)
  return sources, np.stack([wide.loc[s].loc[names].to_numpy() for s in sources])


SOURCES, ACCURACIES = table()
COMPARISONS = ACCURACIES[:, 1:, 0].size
LEADS = (ACCURACIES[:, :1] - ACCURACIES[:, 1:]) @ AREA
CLEAR = abs(LEADS) >= MARGIN


def spreads(kind: str) -> np.ndarray:
  """Returns the SD of a run [sources, 1 + estimators, thresholds].

  Args:
    kind: `like the paper` (0.15 points where nothing happens, 1.35 on the
      cliffs), `0.1 to 1.5` (each estimator its own), or a number of points.
  """
  if kind == 'like the paper':
    fall = np.clip(ACCURACIES[:, :1] - ACCURACIES, 0, 0.35) / 0.35
    sd = 0.15 + 1.2 * fall
    sd[0] = np.maximum(sd[0], 0.35)  # Birdsnap has 2,443 test images.
  elif kind == '0.1 to 1.5':
    generator = np.random.default_rng(7)
    shape = ACCURACIES.shape[:2]
    sd = np.exp(generator.uniform(np.log(0.1), np.log(1.5), shape))[..., None]
    sd = sd + 0 * ACCURACIES
  else:
    sd = np.full(ACCURACIES.shape, float(kind))
  return sd / 100


@dataclasses.dataclass(frozen=True)
class Studies:
  """What simulated studies have found of the comparisons [studies, ...].

  Attributes:
    words: the verdicts [studies, sources, estimators].
    trainings: how many each study took [studies], without originals.
    wrong: whether a verdict contradicts the truth.
    right: whether it has the side of Table 2's own lead.
    covered: whether the pointwise interval of the last look holds the truth.
  """

  words: np.ndarray
  trainings: np.ndarray
  wrong: np.ndarray
  right: np.ndarray
  covered: np.ndarray


def simulate(
  studies: int,
  design: Design,
  kind: str,
  null: bool = False,
  heavy: bool = False,
  noise: int = 0,
) -> Studies:
  """Returns what simulated studies find.

  Args:
    studies: how many.
    design: how each is made.
    kind: the SDs of runs, see `spreads`.
    null: whether all estimators equal random.
    heavy: whether runs of estimators have a t distribution of 3 degrees of
      freedom, of the same SD.
    noise: seed of the simulation.
  """
  generator = np.random.default_rng(noise)
  places = [THRESHOLDS.index(t) for t in design.nodes]
  weights, sd = design.weights, spreads(kind)[..., places]
  means = ACCURACIES[..., places]
  if null:
    means = means[:, :1] + 0 * means
  truth = ((means[:, :1] - means[:, 1:]) * weights).sum(-1)
  random = _runs(generator, studies, means[:, :1], sd[:, :1], weights, design)
  own = _runs(
    generator, studies, means[:, 1:], sd[:, 1:], weights, design, heavy
  )
  images = IMAGE_SD / np.sqrt([TEST_IMAGES[s] for s in SOURCES])[:, None]
  luck = images * generator.standard_normal((studies, *truth.shape))
  words, used, lead, variances = decided(random, own, luck, images, design)
  error, freedom = inference.combined(
    [*variances, images**2],
    [design.random_seeds - 1, design.looks[-1] - 1, np.inf],
  )
  covered = abs(lead - truth) <= inference.half_width(error, freedom)
  better, worse = words == verdict.BETTER, words == verdict.WORSE
  par = words == verdict.ON_PAR
  wrong = better & (truth <= 0) | worse & (truth >= 0)
  wrong |= par & (abs(truth) > MARGIN)
  right = better & (LEADS > 0) | worse & (LEADS < 0)
  trainings = len(design.nodes) * (
    len(SOURCES) * design.random_seeds + used.sum((1, 2))
  )
  return Studies(words, trainings, wrong, right, covered)


def decided(random, own, luck, images, design: Design) -> tuple:
  """Returns what looks decide of heights of seeds.

  Args:
    random: float [..., sources, 1, seeds], the heights of random's seeds.
    own: float [..., sources, estimators, seeds].
    luck: what test images add to the leads, [..., sources, estimators].
    images: the standard error of that, broadcast; NaN if unknown.
    design: the looks.

  Returns:
    The words and the seeds used [..., sources, estimators]; and of the last
    look the leads and the variances of both means.
  """
  words = np.full(own.shape[:-1], verdict.UNDECIDED, object)
  used = np.zeros(words.shape, int)
  mean = random.mean(-1)
  random_variance = random.var(-1, ddof=1) / design.random_seeds
  for seeds, share in zip(design.looks, design.spending, strict=True):
    level = inference.LEVEL * share / COMPARISONS
    runs = own[..., :seeds]
    lead = mean - runs.mean(-1) + luck
    variance = runs.var(-1, ddof=1) / seeds
    half = arms.half_width(
      np.sqrt(random_variance + variance),
      min(seeds, design.random_seeds) - 1,
      images,
      level,
    )
    running = words == verdict.UNDECIDED
    used[running] = seeds
    said = verdict.decide(lead - half, lead + half, np.nan, MARGIN)
    words = np.where(running, said, words)
  return words, used, lead, (random_variance, variance)


def _runs(generator, studies, means, sd, weights, design, heavy=False):
  """Returns heights of seeds [studies, sources, estimators, seeds]."""
  seeds = max(*design.looks, design.random_seeds)
  if means.shape[1] == 1:
    seeds = design.random_seeds
  shape = (studies, *means.shape[:2], seeds)
  # Of nodes that share the half of their variance the sum is normal, too.
  spread = np.sqrt(((sd @ weights) ** 2 + (sd**2) @ weights**2) / 2)
  deviations = generator.standard_normal(shape)
  if heavy:
    deviations /= np.sqrt(generator.chisquare(3, shape))
  return (means @ weights)[..., None] + spread[..., None] * deviations


def main(_) -> None:
  """Prints the tables."""
  studies = FLAGS.studies
  kinds = ('like the paper', '0.1 to 1.5', '0.75', '1.5')
  print('| SD of a run, points | pointwise 95 % intervals that cover |')
  print('| :-- | --: |')
  for kind in kinds:
    covered = simulate(studies, FIXED, kind).covered
    print(f'| {kind} | {covered.mean():.2%} |')
  print()
  print(
    '| design | SD of a run | trainings | clear ones right | all '
    f'{CLEAR.sum()} right | any contradicted |'
  )
  print('| :-- | :-- | --: | --: | --: | --: |')
  for name, design in (('fixed', FIXED), ('sequential', SEQUENTIAL)):
    for kind in kinds:
      found = simulate(studies, design, kind)
      right = found.right[:, CLEAR]
      print(
        f'| {name} | {kind} | {found.trainings.mean():.0f} |'
        f' {right.mean():.1%} | {right.all(1).mean():.1%} |'
        f' {found.wrong.any((1, 2)).mean():.2%} |'
      )
  print()
  print('| design | runs | SD of a run | family-wise error |')
  print('| :-- | :-- | :-- | --: |')
  for name, design in (('fixed', FIXED), ('sequential', SEQUENTIAL)):
    for heavy in (False, True):
      for kind in kinds:
        found = simulate(studies, design, kind, null=True, heavy=heavy)
        runs = 't(3)' if heavy else 'normal'
        errors = found.wrong.any((1, 2)).mean()
        print(f'| {name} | {runs} | {kind} | {errors:.2%} |')


if __name__ == '__main__':
  app.run(main)
