"""What a study's trainings cost, from the seconds in its results."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from roar_tf.analysis import results, statistics


def rows(
  frame: pd.DataFrame,
  devices: Mapping[tuple, int] | None = None,
  price_per_hour: float | None = None,
) -> pd.DataFrame:
  """Returns rows of statistics.csv, three for each source and input.

  Quantities: `seconds` of all runs one after the other, `device_hours`, and
  `cost` if there is a price. `runs` is how many there are.

  Args:
    frame: the runs, see `results.COLUMNS`.
    devices: how many devices shared the batches of a run, by its
      `results.IDENTITY`; one if it is not there.
    price_per_hour: of one device.
  """
  devices = devices or {}
  frame = results.tidy(frame)
  shared = [
    devices.get(run, 1)
    for run in frame[list(results.IDENTITY)].itertuples(index=False, name=None)
  ]
  frame = frame.assign(hours=frame['seconds'] * shared / 3600)
  found = []
  for (source, input), runs in frame.groupby(['source', 'input']):
    numbers = {
      'seconds': runs['seconds'].sum(),
      'device_hours': runs['hours'].sum(),
    }
    if price_per_hour is not None:
      numbers['cost'] = numbers['device_hours'] * price_per_hour
    found += [
      {
        'source': source,
        'input': input,
        'quantity': quantity,
        'value': float(value),
        'runs': len(runs),
      }
      for quantity, value in numbers.items()
    ]
  return pd.DataFrame(found, columns=list(statistics.COLUMNS))
