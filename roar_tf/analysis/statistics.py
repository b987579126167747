"""Statistics of a study: one long table, a row for every number.

A *curve* is one estimator's cells of a source, mode, granularity, fill and
input; its rival is random's curve of the same. `curves` defines leads and RACU,
`evidence` what else is measured, `verdict` what is concluded.

How sure a number is has two parts (`arms`): other seeds, and other test images
of the same kind. Intervals hold both where it is known which images each run
had right, and seeds alone where it is not. All claims are over one explained
model and its rankings, unless the study has several (`results.replicates`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from roar_tf.analysis import contrasts, results
from roar_tf.analysis.arms import Estimate
from roar_tf.analysis.evidence import Curve, Evidence
from roar_tf.analysis.faults import Check
from roar_tf.analysis.results import CURVE
from roar_tf.analysis.verdict import Verdict

_TYPES = dict.fromkeys(CURVE, 'str') | {
  'threshold': 'Int64',
  'quantity': 'str',
  'value': 'float64',
  'low': 'float64',
  'high': 'float64',
  'runs': 'Int64',
  'rival': 'str',
  'decision': 'str',
  'look': 'Int64',
  'spent': 'float64',
}
COLUMNS = tuple(_TYPES)
QUANTITIES = (
  'accuracy',
  'accuracy_sd',
  'sampling_error',
  'gain',
  'lead',
  'lead_pointwise',
  'seeds_error',
  'images_error',
  'ceiling',
  'diffroar',
  'racu',
  'detectable',
  'rank',
  'contrast',
  'kendall',
)


def compute(
  evidence: Evidence,
  verdicts: Iterable[Verdict],
  planned: Iterable[contrasts.Contrast] = (),
  agreements: Iterable[contrasts.Agreement] = (),
) -> pd.DataFrame:
  """Returns the statistics of one study.

  Args:
    evidence: of its runs.
    verdicts: of `verdict.judge`.
    planned: of `contrasts.planned`.
    agreements: of `contrasts.consistency`.

  Returns:
    A frame with the columns `COLUMNS`, in their order. Accuracies, gains and
    leads are fractions. `threshold` is NA for quantities of a whole curve,
    `low` and `high` are NaN where there is no interval, `runs` is the number of
    own seeds behind the number.

    * `accuracy`: mean over runs; 95 % t interval over seeds, from 3 on.
    * `accuracy_sd`: standard deviation between runs, from 2 on. Where several
      seeds share each of several explained models, both are over the means of
      the models (`results.replicates`).
    * `sampling_error`: see `results.summarise`.
    * `gain`: s (random - own) of a cell, s = 1 in `remove`, -1 in `keep`;
      pointwise 95 % interval.
    * `lead`: the same over a whole curve, and the verdict's interval; its word
      is the `decision`, `look` the look of a sequential design that made it,
      `spent` the level that the comparison has spent. Of the explained model
      without retraining (input `deletion`) it is over test images alone.
    * `lead_pointwise`: with the 95 % interval of this comparison alone.
    * `seeds_error`, `images_error`: standard errors of the lead.
    * `ceiling`, `diffroar`, `racu`, `detectable`, `rank`: see `Verdict`.
    * `contrast`: a planned one, with the other estimator as `rival`.
    * `kendall`: tau of the curve's condition with the one that `rival` names
      (mode, fill, input); `runs` is how many estimators were ordered.
  """
  summary = results.summarise(evidence.frame)
  rows = [*_of_cells(summary), *_gains(evidence, summary)]
  for verdict in verdicts:
    rows += _of_verdict(verdict)
  for curve, lead in contrasts.leads(evidence, ('deletion',)):
    rows.append(_row(curve, 'lead', lead.pointwise(), 1))
  for contrast in planned:
    curve = _curve(contrast.curve)
    row = _row(curve, 'contrast', contrast.lead, pd.NA, contrast.word)
    rows.append(row | {'rival': contrast.rival})
  for found in agreements:
    mode, fill, input = found.first
    curve = (found.source, mode, found.granularity, fill, input, '')
    row = _row(curve, 'kendall', Estimate(found.tau), found.estimators)
    rows.append(row | {'rival': ' '.join(found.second)})
  return _tidy(pd.DataFrame(rows, columns=list(COLUMNS)))


def with_checks(table: pd.DataFrame, checks: Iterable[Check]) -> pd.DataFrame:
  """Returns the table with a row for each check, for statistics.csv.

  Its quantity is `alarm_<name>`, or `check_<name>` where the check holds;
  `value` is what was measured and `high` what was allowed.
  """
  rows = [
    {
      **{column: getattr(check, column) for column in CURVE},
      'threshold': check.threshold,
      'quantity': f'{"check" if check.holds else "alarm"}_{check.name}',
      'value': check.value,
      'high': check.allowed,
    }
    for check in checks
  ]
  more = pd.DataFrame(rows, columns=list(COLUMNS))
  return _tidy(pd.concat([table.astype(object), more.astype(object)]))


def write_csv(table: pd.DataFrame, path: str) -> None:
  """Writes the table to a file; floats keep all their digits."""
  from roar_tf.engine import files

  text = _tidy(table).to_csv(index=False, lineterminator='\n')
  files.publish(path, text.encode())


def read_csv(path: str) -> pd.DataFrame:
  """Reads what `write_csv` wrote.

  Raises:
    DataError: the file is no such table.
  """
  with results.reading(path) as data:
    return _tidy(results.parsed(data, _TYPES))


def none() -> pd.DataFrame:
  """Returns the table without any row."""
  return _tidy(pd.DataFrame(columns=list(COLUMNS)))


def _curve(curve: Curve) -> tuple[str, ...]:
  """Returns the values of `CURVE` of a curve of retrained models."""
  return (*curve[:4], 'image', curve.estimator)


def _row(
  curve: Sequence[str],
  quantity: str,
  estimate: Estimate,
  runs,
  decision: str = '',
  threshold: int | None = None,
) -> dict[str, Any]:
  """Returns a row of the table."""
  numbers = (
    threshold,
    quantity,
    *estimate,
    runs,
    '',
    decision,
    pd.NA,
    math.nan,
  )
  return dict(zip(COLUMNS, (*curve, *numbers), strict=True))


def _of_cells(summary: pd.DataFrame) -> Iterator[dict[str, Any]]:
  for cell in summary.itertuples():
    curve = tuple(getattr(cell, column) for column in CURVE)
    more = {'runs': cell.runs, 'threshold': cell.threshold}
    yield _row(
      curve, 'accuracy', Estimate(cell.mean, cell.low, cell.high), **more
    )
    if cell.replicates > 1:
      yield _row(curve, 'accuracy_sd', Estimate(cell.sd), **more)
    yield _row(curve, 'sampling_error', Estimate(cell.sampling_error), **more)


def _gains(
  evidence: Evidence, summary: pd.DataFrame
) -> Iterator[dict[str, Any]]:
  """Yields gains of all cells but random's."""
  for cell in summary[summary['mode'] != ''].itertuples():
    curve = Curve(*(getattr(cell, field) for field in Curve._fields))
    if curve == evidence.random(curve, cell.input):
      continue
    weights = {(cell.mode, cell.threshold): 1.0}
    gain = evidence.lead(curve, None, weights, cell.input)
    if gain is not None:
      key = tuple(getattr(cell, column) for column in CURVE)
      more = {'runs': cell.runs, 'threshold': cell.threshold}
      yield _row(key, 'gain', gain.pointwise(), **more)


def _of_verdict(verdict: Verdict) -> Iterator[dict[str, Any]]:
  if not verdict.lead.known:
    return
  curve, runs = _curve(verdict.curve), verdict.seeds
  row = _row(curve, 'lead', verdict.lead, runs, verdict.word)
  yield row | {'look': verdict.look or pd.NA, 'spent': verdict.spent}
  for quantity, estimate in (
    ('lead_pointwise', verdict.pointwise),
    ('seeds_error', Estimate(verdict.seeds_error)),
    ('images_error', Estimate(verdict.images_error)),
    ('ceiling', verdict.ceiling),
    ('diffroar', verdict.diffroar),
    ('racu', verdict.racu),
    ('detectable', Estimate(verdict.detectable)),
    ('rank', verdict.rank),
  ):
    if not math.isnan(estimate.value):
      yield _row(curve, quantity, estimate, runs)


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
  """Returns the table with its types and order made standard."""
  order = {quantity: i for i, quantity in enumerate(QUANTITIES)}
  table = results.typed(table, _TYPES)
  ranks = table['quantity'].map(lambda q: (order.get(q, len(order)), q))
  return (
    table.assign(order=ranks)
    .sort_values(
      [*CURVE, 'threshold', 'order', 'rival', 'value', 'low', 'high'],
      ignore_index=True,
    )
    .drop(columns='order')
  )
