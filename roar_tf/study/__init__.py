"""A study: its grid of runs, the units behind them, who executes them."""

STAGES = ('source', 'model', 'rank', 'shards', 'train', 'report')
"""The stages in their order; here, where no import of TensorFlow is needed."""
