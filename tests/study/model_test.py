"""Tests of the stage model with a model that was trained elsewhere."""

import dataclasses
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest

from roar_tf import errors
from roar_tf.engine import verify
from roar_tf.study import repairs, stages


@pytest.fixture(scope='module')
def trained(tiny, finished, tmp_path_factory):
  """The explained model of the finished study, as a file."""
  path = tmp_path_factory.mktemp('given') / 'trained.keras'
  tiny.pipeline(finished).stages[0].model.load().save(path)
  return str(path)


def _bindings(path, takes='normalised'):
  return [
    f"ExplainedModel.file = '{path}'",
    f"ExplainedModel.input = '{takes}'",
  ]


def _result(root):
  return json.loads((root / 'models/tiny/result.json').read_text())


def _rankings(root):
  folders = pathlib.Path(root).glob('tfds/roar_tiny/ranking_*')
  return {
    path.name + folder.name: path.read_bytes()
    for folder in folders
    for path in folder.rglob('*.tfrecord-?????-of-?????')
  }


def test_a_file_is_explained_as_if_it_had_been_trained_here(
  tiny, finished, trained, tmp_path, make
):
  root = tmp_path / 'w'
  make(tiny.pipeline(root, *_bindings(trained)), 'rank', upstream=True)
  ours, theirs = _result(root), _result(finished)
  assert ours.pop('steps') == 0 and theirs.pop('steps') == 75
  assert ours == theirs
  found, expected = (
    np.load(folder / 'models/tiny/test_predictions.npz')
    for folder in (root, finished)
  )
  assert found.files == expected.files
  for name in found.files:
    assert found[name].dtype == expected[name].dtype
    np.testing.assert_array_equal(found[name], expected[name])
  assert _rankings(root) == _rankings(finished)
  assert not list(root.rglob('checkpoint.npz'))


def test_the_file_is_needed_no_more_once_the_stage_is_done(
  tiny, trained, tmp_path, make
):
  mine = shutil.copy(trained, tmp_path / 'mine.keras')
  pipeline = tiny.pipeline(tmp_path / 'w', *_bindings(mine))
  make(pipeline, 'model', upstream=True)
  mine.unlink()
  make(tiny.pipeline(tmp_path / 'w', *_bindings(mine)), 'rank')
  assert len(_rankings(tmp_path / 'w')) > 0
  (copy,) = (tmp_path / 'w').glob('models/*/model.keras')
  assert copy.read_bytes() == pathlib.Path(trained).read_bytes()


def test_a_copy_that_is_damaged_is_named_and_mended(
  tiny, trained, tmp_path, make
):
  root = tmp_path / 'w'
  make(tiny.pipeline(root, *_bindings(trained)), 'model', upstream=True)
  copy = root / 'models/tiny/model.keras'
  content = copy.read_bytes()
  copy.write_bytes(content[:-1] + b'!')
  pipeline = tiny.pipeline(root, *_bindings(trained))
  make(pipeline, 'rank', fails=str(copy))
  findings = verify.verify(repairs.folders(pipeline.context.workspace))
  assert [damage.path for damage in findings.damages] == [str(copy)]
  verify.repair(
    pipeline.goals(),
    findings.damages,
    str(root),
    lambda: stages.local_pool(pipeline.context),
    layout=repairs.LAYOUT,
  )
  assert copy.read_bytes() == content


def test_another_file_or_input_is_refused_by_name(
  tiny, trained, tmp_path, make
):
  root = tmp_path / 'w'
  make(tiny.pipeline(root, *_bindings(trained)), 'model', upstream=True)
  model = keras.saving.load_model(trained)
  model.set_weights([w + 1 for w in model.get_weights()])
  model.save(tmp_path / 'other.keras')
  for bindings, word in (
    (_bindings(tmp_path / 'other.keras'), 'SHA-256 of the explained model'),
    (_bindings(trained, '0..1'), 'ExplainedModel.input'),
    ([], 'Training.epochs'),  # Trained here.
  ):
    with pytest.raises(errors.UsageError, match=word):
      make(tiny.pipeline(root, *bindings), 'model')
  # Where a file lies does not matter, but what it holds.
  moved = shutil.copy(trained, tmp_path / 'moved.keras')
  counts = make(tiny.pipeline(root, *_bindings(moved)), 'model')
  assert counts.kept == {'model': 1}


def test_a_file_that_is_not_there_is_named_before_any_work(
  tiny, tmp_path, make
):
  with pytest.raises(errors.UsageError, match='/no/model.keras'):
    make(tiny.pipeline(tmp_path / 'w', *_bindings('/no/model.keras')))
  assert not (tmp_path / 'w/tfds').exists()


@pytest.fixture
def refusal(make):
  """Function that returns how the explained model of a pipeline is refused."""

  def run(pipeline) -> str:
    with pytest.raises(errors.UsageError) as caught:
      make(pipeline, 'model', upstream=True)
    assert '\n' not in str(caught.value)
    return str(caught.value)

  return run


def test_a_model_of_other_images_or_classes_is_refused(tiny, tmp_path, refusal):
  for shape, classes, words in (
    ((9, 8, 3), 3, ['(9, 8, 3)', '(8, 8, 3)']),
    ((8, 8, 3), 5, ['5 classes', '3 classes']),
  ):
    layers = [keras.Input(shape), keras.layers.Flatten()]
    keras.Sequential([*layers, keras.layers.Dense(classes)]).save(
      tmp_path / 'm.keras'
    )
    text = refusal(
      tiny.pipeline(tmp_path / 'w', *_bindings(tmp_path / 'm.keras'))
    )
    assert all(word in text for word in words), text
  assert not (tmp_path / 'w/models/tiny/DONE').exists()


def _saved(path, last, classes=3):
  """Saves a model whose logits go through `last`."""
  inputs = keras.Input((8, 8, 3))
  # Not any weights: some give all images one class.
  kernel = keras.initializers.RandomNormal(seed=1)
  dense = keras.layers.Dense(classes, kernel_initializer=kernel)
  logits = dense(keras.layers.Flatten()(inputs))
  model = keras.Model(inputs, last(logits))
  model.save(path)
  return model


def test_what_are_no_logits_is_refused(tiny, tmp_path, refusal):
  for last, words in (
    (lambda x: 1 * keras.ops.softmax(x), ['probabilities', 'logits']),
    (lambda x: keras.ops.reshape(x, (-1, 1, 3)), ['logits', '(4, 1, 3)']),
  ):
    _saved(tmp_path / 'm.keras', last)
    bindings = _bindings(tmp_path / 'm.keras', '0..1')
    text = refusal(tiny.pipeline(tmp_path / 'w', *bindings))
    assert all(w in text for w in ['ExplainedModel.file', *words]), text


@pytest.mark.parametrize(
  'last',
  [keras.ops.softmax, keras.layers.Softmax(), lambda x: x],
  ids=['operation', 'layer', 'logits'],
)
def test_a_softmax_is_looked_through(last, tiny, tmp_path, raw, make):
  model = _saved(tmp_path / 'm.keras', last)
  root = tmp_path / 'w'
  bindings = _bindings(tmp_path / 'm.keras', '0..1')
  make(tiny.pipeline(root, *bindings), 'rank', upstream=True)
  with np.load(root / 'models/tiny/test_predictions.npz') as found:
    by_id = {
      i.decode(): p
      for i, p in zip(found['ids'], found['predictions'], strict=True)
    }
  expected = model(raw['test']['image'] / 255).numpy().argmax(-1)
  assert [by_id[str(i)] for i in raw['test']['id']] == list(expected)
  assert len(set(expected)) > 1


def test_one_sigmoid_is_a_model_of_two_classes(photographs, make, tmp_path):
  model = _saved(tmp_path / 'm.keras', keras.ops.sigmoid, classes=1)
  bindings = _bindings(tmp_path / 'm.keras', '0..1')
  pipeline = photographs.tiny.pipeline(tmp_path / 'w', *bindings)
  make(pipeline, 'model', upstream=True)
  test = pipeline.stages[0].data.examples(None)['test']
  expected = model(np.asarray(test.images) / 255).numpy()[:, 0] > 0.5
  with np.load(tmp_path / 'w/models/photographs/test_predictions.npz') as found:
    np.testing.assert_array_equal(found['predictions'], expected)
    np.testing.assert_array_equal(
      found['correct'], expected == np.asarray(test.labels)
    )


def test_labels_beyond_the_classes_are_refused(tiny, finished, tmp_path):
  # As if gin told a wrong number of classes; the images have three.
  root = shutil.copytree(finished, tmp_path / 'w')
  layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
  keras.Sequential([*layers, keras.layers.Dense(2)]).save(tmp_path / 'm.keras')
  bindings = [*_bindings(tmp_path / 'm.keras'), 'Source.num_classes = 2']
  model = tiny.pipeline(root, *bindings).stages[0].model
  with pytest.raises(errors.UsageError, match='class 2.* 2 classes'):
    list(model.run([model.explained()]))


def test_an_application_is_explained_with_its_own_preprocessing(
  tiny, store_dataset, randomise, tmp_path, make
):
  import tensorflow_datasets as tfds

  # 32 pixels are the least that it takes.
  images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
  values = {'image': images, 'label': np.arange(20) % 3}
  features = {
    'image': tfds.features.Image(shape=(32, 32, 3), encoding_format='png'),
    'label': tfds.features.ClassLabel(num_classes=3),
  }
  splits = {'train': values, 'test': values}
  store_dataset(tmp_path / 'data', 'larger', '1.0.0', splits, features)
  model = keras.applications.MobileNet(
    weights=None, input_shape=(32, 32, 3), classes=3
  )
  randomise(model)
  model.save_weights(tmp_path / 'm.weights.h5')
  (tmp_path / 'tiny.gin').write_text(
    f"include '{tiny.dataset}'\nSource.tfds_name = 'larger'\n"
    'Source.image_shape = (32, 32, 3)\nSource.truth = False\n'
    'Source.train_images = 20\nSource.test_images = 20\n'
    "ExplainedModel.application = 'MobileNet'\n"
    f"ExplainedModel.weights = '{tmp_path}/m.weights.h5'\n"
  )
  other = dataclasses.replace(tiny, data_dir=str(tmp_path / 'data'))
  pipeline = other.pipeline(
    tmp_path / 'w', f"Study.sources = ('{tmp_path}/tiny.gin',)"
  )
  make(pipeline, 'rank', upstream=True)
  with np.load(tmp_path / 'w/models/tiny/test_predictions.npz') as found:
    order = [int(i.decode().split('_')[-1]) for i in found['ids']]
    expected = model(images[order] / 127.5 - 1).numpy()
    np.testing.assert_array_equal(found['predictions'], expected.argmax(-1))
  assert len(_rankings(tmp_path / 'w')) > 0
  # The weights that the workspace holds are the explained model's.
  explained = pipeline.stages[0].model.load()
  for ours, theirs in zip(explained.weights, model.weights, strict=True):
    np.testing.assert_array_equal(ours, theirs)
