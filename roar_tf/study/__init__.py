"""A study: its grid of runs, the units behind them, who executes them."""

STAGES = ('source', 'model', 'rank', 'shards', 'train', 'report')
"""The stages in their order; here, where no import of TensorFlow is needed."""

RUN_INPUTS = ('image', 'maskonly', 'deletion')
"""What the model of a run is given, and if it is trained: see `grid.Run`."""
