"""A study: its grid of runs, the units behind them, who executes them."""
