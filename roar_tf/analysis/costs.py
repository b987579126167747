"""What a study's trainings cost, from the seconds in its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from roar_tf.analysis import results, statistics


def rows(
  frame: pd.DataFrame,
  devices: Mapping[tuple, int],
  price_per_hour: float | None = None,
) -> pd.DataFrame:
  """Returns rows of statistics.csv, two or three for each source and input.

  Quantities: `seconds` of all runs one after the other, `device_hours`, and
  `cost` if there is a price. `runs` is how many there are.

  Args:
    frame: the runs, see `results.tidy`.
    devices: how many devices shared the batches of a run, by its
      `results.IDENTITY`; one if it is not there.
    price_per_hour: of one device.
  """
  runs = frame[list(results.IDENTITY)].itertuples(index=False, name=None)
  shared = [devices.get(run, 1) for run in runs]
  frame = frame.assign(hours=frame['seconds'] * shared / 3600)
  columns = ['source', 'input', 'quantity', 'value', 'runs']
  numbers = []
  for group, members in frame.groupby(['source', 'input']):
    count, hours = len(members), members['hours'].sum()
    numbers.append((*group, 'seconds', members['seconds'].sum(), count))
    numbers.append((*group, 'device_hours', hours, count))
    if price_per_hour is not None:
      numbers.append((*group, 'cost', hours * price_per_hour, count))
  table = pd.DataFrame(numbers, columns=columns)
  return table.reindex(columns=list(statistics.COLUMNS))


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
  """Returns the costs of each source and input, for the page."""
  group = ['source', 'input', 'runs']
  table = rows.pivot(index=group, columns='quantity', values='value')
  return table.reset_index().to_dict('records')
