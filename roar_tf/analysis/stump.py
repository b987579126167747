"""A toy with a redundant feature: where ROAR needs its recursive protocol.

The paper (section 6.5) names a model for which ROAR fails: a decision stump,
which looks at one feature, where another feature says the same. Its explanation
is right, and holds no word of the copy, which retraining then finds. The remedy
is to explain anew after each retraining (`Study.protocol = 'recursive'`).

A point has 16 features of -1 or 1. Two of them, at places that are drawn, are
the same copy of the label, wrong in one of twenty points; all others are drawn
by chance. The stump takes the feature, or its opposite, that is right for most
training points, the first of equal ones.

* `plain`: the feature that the stump uses on whole points goes first, and then
  all others, to which it gives no importance, in random order.
* `recursive`: the stump is fitted to what is left after every removal, and the
  feature that it uses then goes next.
* `random`: one permutation per draw.

NumPy only; nothing is trained on a device.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

FEATURES = 16
NOISE = 0.05
"""Share of the points for which the label's feature is wrong."""
POINTS = 1_000
ORDERS = 20
"""Random orders of each draw: chance decides early whether the copy goes."""
PROTOCOLS = ('plain', 'recursive', 'random')
COLUMNS = ('draw', 'protocol', 'removed', 'accuracy')


def sample(
  rng: np.random.Generator, places: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws points.

  Args:
    rng: what draws.
    places: int [2], of the two features that tell the label.
    count: how many points.

  Returns:
    x, int8 [count, 16] of -1 and 1, and y, int8 [count].
  """
  x, y = (
    np.int8(2) * rng.integers(0, 2, shape, np.int8) - np.int8(1)
    for shape in ((count, FEATURES), count)
  )
  wrong = rng.random(count) < NOISE
  x[:, places] = np.where(wrong, -y, y)[:, None]
  return x, y


def fit(x: np.ndarray, y: np.ndarray, left: np.ndarray) -> tuple[int, int]:
  """Returns the feature of a stump, and 1, or -1 where it takes the opposite.

  Args:
    x: int8 [N, 16].
    y: int8 [N].
    left: int [K], the features that it may use, at least one.
  """
  left = np.sort(left)
  agreement = (x[:, left] * y[:, None]).sum(0, dtype=np.int64)
  best = np.argmax(np.abs(agreement))
  return int(left[best]), 1 if agreement[best] >= 0 else -1


def order(
  protocol: str, rng: np.random.Generator, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
  """Returns the features in the order of their removal, int [16]."""
  shuffled = rng.permutation(FEATURES)
  if protocol == 'random':
    return shuffled
  if protocol == 'plain':
    used, _ = fit(x, y, shuffled)
    return np.array([used, *shuffled[shuffled != used]])
  gone = []
  while len(gone) < FEATURES:
    gone.append(fit(x, y, np.setdiff1d(shuffled, gone))[0])
  return np.array(gone)


def accuracies(draws: int = 50, seed: int = 0) -> pd.DataFrame:
  """Returns accuracies on test points, retrained after every removal.

  Args:
    draws: how many data sets.
    seed: draw i is a function of (seed, i), whatever the number of draws.

  Returns:
    One row per draw, protocol and removal, with the columns `COLUMNS`:
    `removed` a percentage of features, `accuracy` a fraction, the mean over the
    orders. With nothing left it is one half.
  """
  rows = []
  for draw in range(draws):
    rng = np.random.default_rng([seed, draw, FEATURES])
    places = rng.permutation(FEATURES)[:2]
    x, y = sample(rng, places, POINTS)
    x_test, y_test = sample(rng, places, POINTS)
    for protocol in PROTOCOLS:
      right = np.full(FEATURES + 1, 0.5)
      right[:-1] = np.mean(
        [
          _accuracies(order(protocol, rng, x, y), x, y, x_test, y_test)
          for _ in range(1 if protocol == 'recursive' else ORDERS)
        ],
        axis=0,
      )
      rows += [
        (draw, protocol, 100 * k / FEATURES, accuracy)
        for k, accuracy in enumerate(right)
      ]
  return pd.DataFrame(rows, columns=list(COLUMNS))


def _accuracies(removal: np.ndarray, x, y, x_test, y_test) -> np.ndarray:
  """Returns float64 [16]: of a stump without the first k features."""
  stumps = [fit(x, y, removal[k:]) for k in range(FEATURES)]
  used, signs = map(np.array, zip(*stumps, strict=True))
  return (signs * x_test[:, used] == y_test[:, None]).mean(axis=0)


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
  """Returns mean, low and high quartile of each protocol and removal."""
  groups = frame.groupby(['protocol', 'removed'], sort=False)['accuracy']
  quartiles = groups.quantile([0.25, 0.75]).unstack()
  quartiles.columns = ['low', 'high']
  return quartiles.assign(mean=groups.mean()).reset_index()


def text(summary: pd.DataFrame) -> str:
  """Returns a small table for a terminal: the mean accuracy."""
  shown = summary[summary['removed'].isin([0, 6.25, 12.5, 25, 50, 75])]
  table = shown.pivot(index='protocol', columns='removed', values='mean')
  heads = ''.join(f'{f"{share:g} %":>8}' for share in table.columns)
  lines = [
    'A decision stump, and two features that say the same: mean accuracy (%)',
    'after that share of the features is removed; 50 by chance:',
    '',
    f'{"":13}{heads}',
  ]
  for protocol in PROTOCOLS:
    numbers = ''.join(f'{100 * v:>8.1f}' for v in table.loc[protocol])
    lines.append(f'{protocol:<13}{numbers}')
  return '\n'.join(lines)
