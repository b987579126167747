"""Scores made elsewhere: npz files become a ranking of the workspace.

`roar_rank --scores=DIR --estimators=NAME` ranks the scores as it ranks those of
any estimator. From then on the ranking makes the name valid in that workspace,
and the files are needed no more.
"""

from collections.abc import Sequence

from roar_tf import errors
from roar_tf.engine import progress
from roar_tf.score_files import ScoreFiles
from roar_tf.study.stages import Stages, Workforce


def rank(
  stages: Stages,
  workforce: Workforce,
  names: Sequence[str],
  directory: str,
  granularity: str,
) -> None:
  """Ranks scores that lie in files.

  Args:
    stages: those of the source whose images were explained.
    workforce: who works.
    names: one new name for the scores; or it and, before the same name, the
      prefixes blur_ and max_.
    directory: of the files.
    granularity: `pixel` or `element`.

  Raises:
    UsageError: the name is taken, the files are not as they should be, images
      lack scores, or the name stands for other scores already.
    UnitsFailedError: see `engine.make`.
  """
  context = stages.context
  bases = {name.removeprefix('blur_').removeprefix('max_') for name in names}
  if len(bases) != 1:
    raise errors.UsageError(
      f'--scores={directory} holds one estimator; --estimators must be one new '
      f'name for it, alone or after blur_ or max_, found {",".join(names)}.'
    )
  (base,) = bases
  score_files = ScoreFiles(directory, context.source.image_shape)
  stages.rank.read_scores(base, score_files)
  # Which ids there must be is known once the source is made.
  workforce.make(context, [stages.source.original])
  parts = context.all_shards()
  ids = (id_ for part in parts for id_ in stages.source.ids(part))
  if more := score_files.check_all(ids):
    progress.say(
      f'rank {context.source.name}: {more} of {len(score_files)} ids in '
      f'{score_files.directory} are not of this dataset, and are ignored'
    )
  goals = [stages.rank.ranking(name, granularity) for name in names]
  workforce.make(context, goals)
