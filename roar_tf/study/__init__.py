"""The experiment: its grid of runs, and a file a stage; begin with `stages`."""

RUN_INPUTS = ('image', 'maskonly', 'deletion')
"""What the model of a run is given, and if it is trained: see `grid.Run`."""
