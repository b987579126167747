"""Without the other libraries there are no tests here; else a table of errors.

`make peers` makes the environment that has them.
"""

import importlib.util

PEERS = ('captum', 'torch', 'xplique')

# Tests are imported before marks deselect them.
if not all(importlib.util.find_spec(name) for name in PEERS):
  collect_ignore_glob = ['*_test.py']


def pytest_terminal_summary(terminalreporter):
  """Prints what tests recorded as `error`, passed or failed, as a table."""
  rows = [
    value
    for outcome in ('passed', 'failed')
    for report in terminalreporter.stats.get(outcome, [])
    if report.when == 'call'
    for name, value in report.user_properties
    if name == 'error'
  ]
  if not rows:
    return
  terminalreporter.section('relative differences from other libraries')
  terminalreporter.write_line(
    f'{"estimator":<13}{"library":<9}{"network":<14}'
    f'{"float64":>9}{"float32":>9}{"worst image":>13}'
  )
  for row in rows:
    errors = [row.get(name) for name in ('float64', 'float32', 'worst')]
    cells = ['-' if error is None else f'{error:.1e}' for error in errors]
    terminalreporter.write_line(
      f'{row["estimator"]:<13}{row["library"]:<9}{row["network"]:<14}'
      f'{cells[0]:>9}{cells[1]:>9}{cells[2]:>13}'
    )
