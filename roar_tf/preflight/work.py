"""How much a whole study has to compute on one source, from nothing."""

import dataclasses

from roar_tf.preflight.subject import Subject


@dataclasses.dataclass(frozen=True)
class Work:
  """Counts that follow from the configuration alone.

  Attributes:
    runs: retrainings.
    steps: training steps of all of them together.
    explained_steps: steps of the explained model's training.
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
  runs = experiment.study.runs(source.name)
  retrained = sum(run.trains for run in runs)
  explained = train + test if plan else 0
  per_image = plan.gradient_evaluations if plan else 0
  trained = plan and not experiment.given
  return Work(
    runs=retrained,
    steps=retrained * experiment.retrained.steps(train),
    explained_steps=experiment.explained.steps(train) if trained else 0,
    tested_images=test * (len(runs) + bool(plan)),
    explained_images=explained,
    gradient_evaluations=explained * per_image,
  )
