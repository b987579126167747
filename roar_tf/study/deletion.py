"""Deletion without retraining: the explained model on masked test images.

The older way to judge estimators (paper, section 3 and Fig. 3). It confuses
what a model misses with what it has never seen: masked images are none of those
it was trained on. It is reported beside retraining, to be compared with it.
"""

import time

from roar_tf.study import given_model, model_stage, trainings
from roar_tf.study.context import Context
from roar_tf.training import loop


def test(context: Context, cell, kind: str, directory: str) -> None:
  """Tests the explained model on a cell and writes everything but DONE.

  Args:
    context: the experiment.
    cell: the cell, None for `original`.
    kind: what is read, see `trainings.examples_of`.
    directory: where the same files go as of a training, see
      `trainings.train_one`.
  """
  start = time.monotonic()
  data = trainings.examples_of(context, cell, kind, splits=('test',))['test']
  outcome = _evaluated(context, data)
  if context.devices.is_chief:
    timing = {'seconds': time.monotonic() - start, 'step_seconds': 0.0}
    trainings.write_outcome(context, directory, outcome, data, 0, timing)


def _evaluated(context: Context, data) -> loop.Evaluation:
  if context.experiment.given:
    classify = context.cached(
      ('classifier',),
      lambda: given_model.classifier(
        context, model_stage.explained_model(context)
      ),
    )
    return given_model.evaluated(context, classify, data)
  path = context.workspace.model(context.experiment.source.name)
  state = context.cached(
    ('explained weights',),
    lambda: trainings.load_weights(f'{path}/{trainings.WEIGHTS}'),
  )
  return trainings.trainer(context, 'explained').evaluate(state, data)
