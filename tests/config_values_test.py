"""Tests of odd values of gin parameters: used, or refused in a sentence."""

import dataclasses
import json
import random

import pytest

from roar_tf import errors
from roar_tf.datasets.source import Source
from roar_tf.estimators.settings import Settings
from roar_tf.models.given import ExplainedModel
from roar_tf.ranking import Ranking
from roar_tf.study import experiment
from roar_tf.study.grid import Study
from roar_tf.training.settings import Training


@pytest.mark.parametrize(
  'model',
  [
    *("'resnet50'", 'None', '50', '@resnet50()', '@explained/resnet50'),
    *('@resnet51', '@Ranking', '@Source', '@Study', '@resnet50/resnet51'),
  ],
)
def test_a_model_that_is_no_factory_is_refused(model):
  with pytest.raises(errors.UsageError) as caught:
    experiment.load(
      study='quickstart', gin_bindings=[f'Training.model = {model}']
    )
  assert 'Training' in str(caught.value) and '\n' not in str(caught.value)


ODD = (
  *('None', '-1', '0', '2', '0.5', '1e400', "''", "'x'", "'é'", "b'x'", '1j'),
  *('True', '()', '[]', '{}', "(1, 'a')", '(None,)', '((1, 2), (3,))'),
  *('(8.0, 8, 3)', '10**30', '@small_resnet', "'@'", "('random', 'random')"),
)


@pytest.mark.parametrize(
  'label, cls',
  [
    ('Study', Study),
    ('Training', Training),
    ('explained/Training', Training),
    ('Attribution', Settings),
    ('Ranking', Ranking),
    ('Source', Source),
    ('ExplainedModel', ExplainedModel),
  ],
)
def test_whatever_is_bound_is_used_or_refused_in_a_sentence(label, cls):
  generator = random.Random(label)
  fields = [field.name for field in dataclasses.fields(cls)]
  for name in fields:
    for value in generator.sample(ODD, 6):
      binding = f'{label}.{name} = {value}'
      try:
        (loaded,) = experiment.load(study='quickstart', gin_bindings=[binding])
      except errors.UsageError as e:
        assert '\n' not in str(e), binding
        assert name in str(e) or label.rpartition('/')[2] in str(e), binding
      else:
        settings = (
          loaded.source.settings(),
          loaded.study.runs('s', 0)[0].columns,
        )
        json.dumps(settings, allow_nan=False)
        json.dumps(
          loaded.retrained.settings(loaded.retrained_model), allow_nan=False
        )
