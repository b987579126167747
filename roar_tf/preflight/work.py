"""How much a whole study has to compute on one source, from nothing."""

import dataclasses

from roar_tf.estimators.plan import Plan
from roar_tf.preflight.subject import Subject


@dataclasses.dataclass(frozen=True)
class Work:
  """Counts that follow from the configuration alone.

  Attributes:
    runs: retrainings.
    steps: training steps of all of them together.
    explained_steps: steps of the trainings of explained models.
    tested_images: images that all models together classify.
    explained_images: images that some gradient estimator explains.
    gradient_evaluations: of all of them together.
  """

  runs: int
  steps: int
  explained_steps: int
  tested_images: int
  explained_images: int
  gradient_evaluations: int


def whole(subject: Subject) -> Work:
  """Returns what the study of an experiment computes."""
  experiment, plan = subject.experiment, subject.plan
  source = experiment.source
  train, test = source.count('train'), source.count('test')
  study = experiment.study
  runs = study.runs(source.name)
  retrained = sum(run.trains for run in runs)
  models = len({run.cell.model for run in runs if run.cell}) if plan else 0
  images = train + test
  explained = images * models
  gradients = explained * plan.gradient_evaluations if plan else 0
  for run in runs:  # What the recursive protocol explains anew.
    if run.cell and run.input == 'image' and study.before(run.cell):
      own = Plan((run.cell.estimator,), experiment.attribution)
      explained += images
      gradients += images * own.gradient_evaluations
  trained = 0 if experiment.given else models
  return Work(
    runs=retrained,
    steps=retrained * experiment.retrained.steps(train),
    explained_steps=experiment.explained.steps(train) * trained,
    tested_images=test * (len(runs) + models),
    explained_images=explained,
    gradient_evaluations=gradients,
  )
