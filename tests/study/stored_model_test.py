"""Tests of `roar_tf.load_model`."""

import gin
import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

import roar_tf
from roar_tf import config, errors
from roar_tf.engine import files, markers
from roar_tf.models import resnet


@pytest.fixture(scope='module')
def loaded(finished):
  return roar_tf.load_model(finished, 'tiny')


def _examples(root, split='test'):
  data = tfds.load(
    'roar_tiny/original', data_dir=root / 'tfds', split=split, batch_size=-1
  )
  return tfds.as_numpy(data)


def test_it_is_the_model_that_rankings_explain(loaded, finished):
  test = _examples(finished)
  logits = loaded.model(loaded.preprocess(test['image'])).numpy()
  accuracy = (logits.argmax(-1) == test['label']).mean()
  assert accuracy == pytest.approx(loaded.accuracy)
  assert loaded.classes == ('0', '1', '2')
  scores = roar_tf.explain(
    loaded.model, loaded.preprocess(test['image']), 'grad', ids=test['id']
  )['grad']
  found = roar_tf.rank(scores, ids=test['id']).numpy()
  data = tfds.load(
    'roar_tiny/ranking_grad_pixel', data_dir=finished / 'tfds', split='test'
  )
  stored = {e['id']: e['levels'] for e in tfds.as_numpy(data)}
  expected = np.stack([stored[i] for i in test['id']])
  # Batches of other sizes round otherwise.
  assert (np.abs(found.astype(int) - expected) <= 2).mean() > 0.999


def test_it_preprocesses_as_the_study_does(loaded, finished, tiny):
  stage = tiny.pipeline(finished).stages[0].model
  for ours, theirs in zip(
    loaded.model.weights, stage.load().weights, strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)
  images = _examples(finished)['image']
  scaled = stage.scaling()
  np.testing.assert_array_equal(loaded.preprocess(images), scaled(images))
  np.testing.assert_array_equal(
    loaded.baseline, scaled(np.zeros_like(images))[0]
  )
  floats = images.astype(np.float32)
  np.testing.assert_array_equal(loaded.preprocess(floats), scaled(images))
  with pytest.raises(ValueError, match=r'in 0..255.*0..1'):
    loaded.preprocess(floats / floats.max())
  with pytest.raises(ValueError, match='must be of shape'):
    loaded.preprocess(images[0])


def test_mistakes_are_told_in_a_sentence(finished, damaged, tmp_path):
  for call, words in (
    (lambda: roar_tf.load_model(tmp_path / 'none', 'tiny'), 'no workspace'),
    (lambda: roar_tf.load_model(finished, 'tinny'), 'Did you mean "tiny"'),
    (lambda: roar_tf.load_model(finished, 'tiny', 2), 'model 2 .*it has 0'),
    (lambda: roar_tf.load_model(finished, 'tiny', '0'), 'must be the number'),
  ):
    with pytest.raises(errors.UsageError, match=words):
      call()
  weights = damaged / 'models/tiny/weights.npz'
  weights.write_bytes(weights.read_bytes()[:-1] + b'!')
  with pytest.raises(errors.DataError, match='weights.npz is damaged'):
    roar_tf.load_model(damaged, 'tiny')


def _made_by(damaged, **changes):
  """Changes what a model was made with."""
  path = str(damaged / 'models/tiny' / markers.DONE)
  marker = markers.read(path)
  settings = marker['fingerprint']['settings']
  kept = {k: v for k, v in settings.items() if 'small_resnet' not in k}
  marker['fingerprint']['settings'] = kept | changes
  facts = {k: v for k, v in marker.items() if k in ('files', 'environment')}
  files.remove(path)
  markers.write(path, marker['fingerprint'], facts)


def test_a_factory_must_be_known_and_be_what_it_was(damaged):
  _made_by(damaged, **{'Training.model': 'theirs', 'theirs.width': 4})
  with pytest.raises(errors.UsageError, match='"theirs".*import the module'):
    roar_tf.load_model(damaged, 'tiny')
  _made_by(
    damaged,
    **{
      'Training.model': 'small_resnet',
      'source code of model "small_resnet"': {'sha256': 'a'},
    },
  )
  with pytest.raises(errors.UsageError, match='another source code of model'):
    roar_tf.load_model(damaged, 'tiny')


@gin.configurable
def a_small_net(input_shape, num_classes, sizes=(8, 8)):
  """Of the model in the workspace, if its sizes are (4, 2)."""
  assert isinstance(sizes, tuple)
  width, stages = sizes
  return resnet.small_resnet(input_shape, num_classes, width, 1, stages)


def test_a_factory_of_ones_own_builds_it_again(loaded, damaged):
  code = config.factory(a_small_net).code
  assert code  # Its source.
  own = {'Training.model': 'a_small_net', 'a_small_net.sizes': (4, 2)}
  _made_by(damaged, **own, **code)
  # What gin binds now is not what it was.
  gin.bind_parameter('a_small_net.sizes', (5, 3))
  found = roar_tf.load_model(damaged, 'tiny')
  images = _examples(damaged)['image']
  np.testing.assert_array_equal(
    found.model(found.preprocess(images)),
    loaded.model(loaded.preprocess(images)),
  )
  with pytest.raises(ValueError, match='LoadedModel: give its attribute model'):
    roar_tf.explain(found, found.preprocess(images), 'grad')


def test_a_model_that_was_given_is_loaded_too(tiny, loaded, make, tmp_path):
  loaded.model.save(tmp_path / 'given.keras')
  bindings = (
    f"ExplainedModel.file = '{tmp_path}/given.keras'",
    "ExplainedModel.input = 'normalised'",
  )
  root = tmp_path / 'w'
  make(tiny.pipeline(root, *bindings), 'model', upstream=True)
  (tmp_path / 'given.keras').unlink()
  found = roar_tf.load_model(root, 'tiny')
  images = _examples(root)['image']
  assert isinstance(found.model, keras.Model)
  np.testing.assert_array_equal(
    found.model(found.preprocess(images)),
    loaded.model(loaded.preprocess(images)),
  )
