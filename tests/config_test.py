"""Tests of gin: finding, parsing, freezing and recording configurations."""

import re
import sys
import textwrap

import gin
import pytest

from roar_tf import config, errors
from roar_tf.study import experiment
from roar_tf.training.settings import Training


@gin.configurable
def _probe(first, second, width=1, depth=2):
  return first, second, width, depth


@pytest.fixture(autouse=True)
def clean():
  yield
  gin.clear_config()


def _file(tmp_path, text, name='mine.gin'):
  (tmp_path / name).write_text(text)
  return str(tmp_path / name)


def _training(files=(), bindings=()):
  (loaded,) = experiment.load(
    dataset='planted_patch', gin_files=files, gin_bindings=bindings
  )
  return loaded.retrained


def test_every_configuration_that_comes_along_loads():
  for name in config.available('datasets'):
    (loaded,) = experiment.load(dataset=name)
    assert loaded.source.name == name
  for name in config.available('studies'):
    loaded = experiment.load(study=name)
    assert loaded[0].study.name == name
    assert [e.source.name for e in loaded] == list(loaded[0].study.sources)


def test_a_configuration_is_found_by_name_or_path(tmp_path):
  assert config.find('studies', 'quickstart').endswith('studies/quickstart.gin')
  mine = _file(tmp_path, '')
  assert config.find('datasets', mine) == mine
  assert config.stem(mine) == config.stem('mine') == 'mine'


@pytest.mark.parametrize(
  'kind, name, words',
  [
    ('studies', 'quikstart', ['--study=quikstart', '"quickstart"']),
    ('datasets', 'fashion_mnits', ['--dataset=fashion_mnits', '"fashion_mni']),
    ('studies', 'xyz', ['--study=xyz', 'Known:', 'quickstart']),
    ('datasets', '/no/where.gin', ['/no/where.gin']),
  ],
)
def test_an_unknown_configuration_is_named_with_a_suggestion(kind, name, words):
  with pytest.raises(errors.UsageError) as caught:
    config.find(kind, name)
  for word in words:
    assert word in str(caught.value)


def test_later_files_win_and_bindings_win_over_files(tmp_path):
  one = _file(tmp_path, 'Training.epochs = 11\nTraining.l2 = 11\n', '1.gin')
  two = _file(tmp_path, 'Training.epochs = 12\n', '2.gin')
  training = _training([one, two])
  assert (training.epochs, training.l2) == (12, 11)
  training = _training(
    [one, two], ['Training.epochs = 13', 'Training.epochs=14']
  )
  assert (training.epochs, training.l2) == (14, 11)


def test_nothing_of_an_earlier_configuration_remains():
  plain = _training()
  assert _training(bindings=['Training.epochs = 99']).epochs == 99
  assert _training() == plain
  operative = experiment.load(dataset='planted_patch')[0].operative_config
  assert 'Study' not in operative


@pytest.mark.parametrize(
  'text, words',
  [
    ('Training.epoch = 3', ['epoch', 'Training']),
    ('Trainin.epochs = 3', ['Trainin']),
    ('Training.epochs = ', ['mine.gin']),
    ('Training.epochs = (1,', ['mine.gin']),
    ('Training.model = @no_such_model', ['no_such_model']),
    ("include 'no/such.gin'", ['no/such.gin']),
    ('import no_such_module', ['no_such_module']),
  ],
)
def test_what_does_not_parse_is_named_with_its_place(text, words, tmp_path):
  mine = _file(tmp_path, f'{text}\n')
  for files, bindings, where in (
    ([mine], [], mine),
    ([], [text], '--gin_bindings'),
  ):
    with pytest.raises(errors.UsageError) as caught:
      _training(files, bindings)
    message = str(caught.value)
    assert where in message
    assert '\n' not in message
    for word in words:
      assert word in message or word == 'mine.gin'


@pytest.mark.parametrize(
  'binding, nearest',
  [
    ('Study.seed = 5', 'Study.seeds'),
    ('Study.treshold = (5,)', 'Study.thresholds'),
    ('Study.epochs = 5', 'Training.epochs'),
    ('explained/Training.epoch = 5', 'Training.epochs'),
    ('roar_tf.study.grid.Study.seed = 5', 'Study.seeds'),
    ('Stduy.seeds = 5', 'Study'),
    ('training.epochs = 5', 'Training'),
    ('Training.model = @resnet05', 'resnet50'),
    ('Training.model = @resnet05()', 'resnet50'),
    ('resnet.dept = 18', 'resnet.depth'),
  ],
)
def test_the_nearest_parameter_is_suggested(binding, nearest, tmp_path):
  mine = _file(tmp_path, f'# mine\n{binding}\n')
  words = f'Did you mean "{re.escape(nearest)}"'
  with pytest.raises(errors.UsageError, match=f'mine.gin, line 2: .*{words}'):
    config.parse([mine], [])
  with pytest.raises(errors.UsageError, match=f'--gin_bindings=.*{words}'):
    config.parse([], [binding])
  outer = _file(tmp_path, f"include '{mine}'\n", 'outer.gin')
  place = f'{mine}, line 2, which {outer} includes'
  with pytest.raises(errors.UsageError, match=f'{place}: .*{words}'):
    config.parse([outer], [])


def test_a_parameter_that_resembles_none_gets_no_suggestion():
  with pytest.raises(errors.UsageError, match="named 'qqqq'.$"):
    config.parse([], ['Study.qqqq = 5'])


def test_all_mistakes_are_told_at_once(tmp_path):
  mine = _file(tmp_path, 'Study.seed = 5\n')
  with pytest.raises(errors.UsageError) as caught:
    config.parse(['/no/file.gin', mine], ['Training.epoch = 1', 'Study.'])
  first, *told = str(caught.value).splitlines()
  assert first == '4 mistakes:'
  for line, words in zip(
    told,
    ('/no/file.gin', 'Study.seeds', 'Training.epochs', '--gin_bindings=Study.'),
    strict=True,
  ):
    assert words in line
  with pytest.raises(errors.UsageError) as caught:
    experiment.load(
      study='paper',
      gin_bindings=[
        *('Study.seeds = 0', 'Study.margin = 2', 'Study.masking = "none"'),
        *('Training.epochs = -1', 'Attribution.samples = 0'),
        'Ranking.ties = "none"',
      ],
    )
  told = str(caught.value).splitlines()
  assert told[0] == f'{len(told) - 1} mistakes:' and len(set(told)) == len(told)
  for word in ('seeds', 'margin', 'masking', 'epochs', 'samples', 'ties'):
    assert sum(word in line for line in told) == 1, told


def test_what_a_file_names_lies_beside_it(tmp_path, monkeypatch):
  folder, elsewhere = tmp_path / 'study', tmp_path / 'elsewhere'
  for path in (folder / 'data', elsewhere / 'data'):
    path.mkdir(parents=True)
  ours = "include 'datasets/planted_patch.gin'\n"
  _file(folder, ours, 'data/own.gin')
  _file(folder, 'from_beside = 1\n', 'module_of_mine.py')
  _file(folder, 'Study.seeds = 2\n', 'more.gin')
  _file(elsewhere, ours, 'data/only_here.gin')
  _file(elsewhere, 'Study.no_such = 2\n', 'more.gin')
  _file(elsewhere, 'raise ImportError("the wrong one")\n', 'module_of_mine.py')
  text = """
  import module_of_mine
  include 'studies/quickstart.gin'
  include 'more.gin'
  Study.sources = ('data/own.gin', 'data/only_here.gin', 'cifar10')
  """
  study = _file(folder, textwrap.dedent(text), 'mine.gin')
  monkeypatch.chdir(elsewhere)
  monkeypatch.setattr(sys, 'path', ['', *sys.path])
  loaded = experiment.load(study=study)
  assert sys.modules.pop('module_of_mine').from_beside
  assert [each.study.seeds for each in loaded] == [2, 2, 2]
  assert [each.configuration.dataset for each in loaded] == [
    *(f'{folder}/data/own.gin', 'data/only_here.gin', 'cifar10')
  ]
  # Folders of images and models lie beside it, too.
  (folder / 'images').mkdir()
  for path in (folder, elsewhere):
    _file(path, '', 'model.keras')
  bindings = (
    'Source.tfds_name = None\nSource.generated = False\n'
    "Source.folder = 'images'\n"
  )
  model = "ExplainedModel.file = 'model.keras'\nExplainedModel.input = '0..1'\n"
  own = _file(folder, ours + bindings, 'photographs.gin')
  more = _file(folder, model, 'model.gin')
  (found,) = experiment.load(dataset=own, gin_files=[more])
  assert found.source.folder == f'{folder}/images'
  assert found.given.path == f'{folder}/model.keras'
  (found,) = experiment.load(
    dataset=own, gin_bindings=[*model.splitlines(), "Source.folder = 'x'"]
  )
  assert (found.source.folder, found.given.path) == ('x', 'model.keras')
  # What --gin_bindings names, was named here.
  binding = "Study.sources = ('data/only_here.gin',)"
  _file(folder, 'Study.no_such = 2\n', 'data/only_here.gin')
  (found,) = experiment.load(study=study, gin_bindings=[binding])
  assert found.configuration.dataset == 'data/only_here.gin'


def test_a_missing_gin_file_is_named():
  with pytest.raises(errors.UsageError, match='--gin_file=/no/such.gin'):
    _training(['/no/such.gin'])


def test_a_gin_file_of_ours_is_found_and_a_local_one_wins(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  name = 'studies/quickstart.gin'
  assert _training([name]) == _training()
  (tmp_path / 'studies').mkdir()
  _file(tmp_path, 'Training.batch_size = 7\n', name)
  assert _training([name]).batch_size == 7
  with pytest.raises(errors.UsageError, match='--gin_file=studies/tiny.gin'):
    _training(['studies/tiny.gin'])


def test_folders_of_the_user_do_not_hide_files_of_ours(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for name in ('datasets', 'profiles', 'studies', 'train'):
    (tmp_path / name).mkdir()
  plain = experiment.load(dataset='planted_patch_leaky')
  monkeypatch.syspath_prepend('')
  assert experiment.load(dataset='planted_patch_leaky') == plain
  assert experiment.load(study='paper_birdsnap')


def test_a_file_named_like_one_of_ours_is_not_taken_for_it(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'train').mkdir()
  (tmp_path / 'train/small_images.gin').write_text('Training.epochs = 1\n')
  with pytest.raises(errors.UsageError, match='"train/small_images.gin" names'):
    experiment.load(dataset='planted_patch')
  own = 'train/small_images.gin'  # A flag means the user's own.
  monkeypatch.chdir(tmp_path.parent)
  experiment.load(dataset='planted_patch', gin_files=[str(tmp_path / own)])


PROFILES = {
  'paper': {
    'granularities': ('element',),
    'fills': ('mean',),
    'random': 'random_bernoulli',
    'samples': 15,
    'noise': 0.15,
    'steps': 25,
    'quadrature': 'riemann_right',
    'target': 'predicted',
    'sobel': 'magnitude',
    'ties': 'random',
    'eval_preprocess': 'none',
  },
  'released': {
    'granularities': ('element',),
    'fills': ('imagenet_mean',),
    'random': 'random_bernoulli',
    'samples': 25,
    'noise': 0.15,
    'steps': 25,
    'quadrature': 'riemann_right',
    'target': 'predicted',
    'sobel': 'released',
    'ties': 'index',
    'eval_preprocess': 'center_crop',
  },
}


def test_every_profile_is_tested():
  assert config.available('profiles') == sorted(PROFILES)


@pytest.mark.parametrize('name', PROFILES)
@pytest.mark.parametrize('study', config.available('studies'))
def test_a_profile_decides_over_any_study(name, study):
  for loaded in experiment.load(
    study=study, gin_files=[f'profiles/{name}.gin']
  ):
    places = (
      loaded.study,
      loaded.attribution,
      loaded.ranking,
      loaded.retrained,
    )
    for setting, value in PROFILES[name].items():
      (place,) = (p for p in places if setting in p.__dataclass_fields__)
      assert getattr(place, setting) == value, setting
    assert 'random' not in loaded.study.estimators
    assert loaded.explained.eval_preprocess == 'none'
    command = loaded.configuration.command('roar_study')
    assert f'--gin_file=profiles/{name}.gin' in command
    lines = loaded.operative_config.splitlines()
    for line in (
      "Study.random = 'random_bernoulli'",
      f"Ranking.ties = '{PROFILES[name]['ties']}'",
    ):
      assert line in lines


@pytest.mark.parametrize('name', PROFILES)
def test_whatever_a_profile_sets_is_a_parameter_with_a_reason(name):
  text = open(f'{config.root()}/profiles/{name}.gin').read()
  header, *parts = text.split('\n\n')
  assert header.startswith(f'# {name}: ')
  assert f'--gin_file=profiles/{name}.gin' in text
  for part in parts:
    # A comment first, then the parameters that it explains.
    assert part.startswith('#'), part
  names = {
    line.split(' = ')[0].split('.')[1]
    for line in text.splitlines()
    if line and not line.startswith('#')
  }
  assert names == set(PROFILES[name])


@pytest.mark.parametrize(
  'source, batch, rate, steps',
  [  # Table 1, and the batch sizes of the released code.
    ('imagenet2012', 4096, 0.1, 32000),
    ('food101', 256, 0.7, 20000),
    ('birdsnap', 256, 1.0, 20000),
  ],
)
def test_the_papers_datasets_train_as_in_the_paper(source, batch, rate, steps):
  (loaded,) = experiment.load(dataset=source)
  assert loaded.explained == loaded.retrained
  training = loaded.retrained
  assert loaded.retrained_model.name == 'resnet50'
  assert (training.batch_size, training.base_learning_rate) == (batch, rate)
  assert (training.train_steps, training.epochs) == (steps, None)
  assert training.warmup_epochs == 5
  assert training.drops == ((30, 0.1), (60, 0.01), (80, 0.001))
  assert (training.momentum, training.l2) == (0.9, 1e-4)
  assert training.label_smoothing == 0.1


@pytest.mark.parametrize(
  'binding, words',
  [
    ('Training.epochs = 0', ['Training.epochs', '0']),
    ('Training.train_steps = 9', ['Training.epochs', 'Training.train_steps']),
    ("Training.epochs = 'many'", ['Training']),
    ('Training.batch_size = 1.5', ['Training.batch_size', '1.5']),
    ("Training.augmentation = 'filp'", ['Training.augmentation', 'filp']),
    ('Training.drops = ((9, 0.1), (3, 0.1))', ['Training.drops']),
    ('Source.train_subset = 1000000', ['Source.train_subset', '4000']),
    ("Ranking.ties = 'first'", ['Ranking', 'ties', "'index'", "'first'"]),
    ('Ranking.cuts = (30, 10)', ['Ranking', 'cuts', '(30, 10)']),
    ('Source.image_shape = (16, 16)', ['Source.image_shape', '(16, 16)']),
    ('Source.test_images = 0', ['Source.test_images', '0']),
  ],
)
def test_an_impossible_value_is_named_before_any_work(binding, words):
  with pytest.raises(errors.UsageError) as caught:
    _training(bindings=[binding])
  for word in words:
    assert word in str(caught.value)


def test_a_required_parameter_that_nobody_set_is_named(tmp_path):
  study = _file(tmp_path, "Study.estimators = ('grad',)\n")
  with pytest.raises(errors.UsageError, match='sources'):
    experiment.load(study=study)
  source = _file(tmp_path, "include 'train/small_images.gin'\n", 'source.gin')
  with pytest.raises(errors.UsageError, match='image_shape'):
    experiment.load(dataset=source)


def test_seeds_beyond_31_bits_are_refused():
  for seed in (-1, 2**31):
    with pytest.raises(errors.UsageError, match=str(seed)):
      experiment.load(dataset='planted_patch', seed=seed)


def test_a_factory_is_free_of_later_configurations():
  gin.parse_config('_probe.width = 3\nscope/_probe.width = 4')
  plain, scoped = config.factory(_probe), config.factory(_probe, scope='scope')
  gin.parse_config('_probe.width = 5\n_probe.depth = 6')
  assert plain('a', 'b') == ('a', 'b', 3, 2)
  assert scoped('a', 'b') == ('a', 'b', 4, 2)
  gin.clear_config()
  assert plain('a', 'b') == ('a', 'b', 3, 2)
  assert dict(plain.arguments) == {'width': 3, 'depth': 2}


def test_one_experiment_does_not_change_another(tmp_path):
  small = _file(
    tmp_path,
    f"include '{config.find('datasets', 'planted_patch')}'\n"
    'small_resnet.width = 5\nTraining.epochs = 77\n',
    'small.gin',
  )
  study = _file(
    tmp_path,
    f"Study.sources = ('planted_patch', '{small}')\n"
    "Study.estimators = ('grad',)\n",
    'two.gin',
  )
  one, two = experiment.load(study=study)
  (alone,) = experiment.load(study=study, dataset='planted_patch')
  assert (one.source.name, two.source.name) == ('planted_patch', 'small')
  assert two.retrained.epochs == 77
  assert two.retrained_model.arguments['width'] == 5
  assert one == alone
  # Their artefacts would lie in one place.
  (tmp_path / 'other').mkdir()
  twin = _file(tmp_path, open(small).read(), 'other/small.gin')
  with pytest.raises(errors.UsageError, match='small'):
    experiment.load(
      study=study, gin_bindings=[f'Study.sources = ({small!r}, {twin!r})']
    )


@pytest.mark.parametrize('name', ['my-data.v2.gin', 'MyData.gin'])
def test_a_dataset_that_tfds_could_not_find_is_refused_at_once(name, tmp_path):
  mine = _file(
    tmp_path, f"include '{config.find('datasets', 'planted_patch')}'\n", name
  )
  with pytest.raises(errors.UsageError, match='rename the file') as caught:
    experiment.load(study='quickstart', dataset=mine)
  assert len(str(caught.value).splitlines()) == 1


def test_the_operative_config_shows_all_that_ran(tmp_path):
  mine = _file(tmp_path, 'Training.epochs = 6\nsmall_resnet.width = 9\n')
  (loaded,) = experiment.load(
    study='quickstart',
    gin_files=[mine],
    gin_bindings=[
      'explained/Training.epochs = 7',
      'explained/small_resnet.blocks = 2',
    ],
  )
  lines = loaded.operative_config.splitlines()
  for line in (
    'Training.momentum = 0.9',  # A default that no file sets.
    'Training.epochs = 6',  # Set by a file.
    'explained/Training.epochs = 7',  # Set by a binding, in a scope.
    'small_resnet.width = 9',  # A parameter of the factory
    'small_resnet.stages = 3',  # and a default of it.
    'Study.random_seeds = 8',
  ):
    assert line in lines
  blocks = [line for line in lines if 'small_resnet.blocks' in line]
  assert sorted(blocks) == [
    'explained/small_resnet.blocks = 2',
    'small_resnet.blocks = 1',
  ]


def test_the_operative_config_repeats_the_experiment(tmp_path):
  (loaded,) = experiment.load(
    study='quickstart',
    gin_bindings=['explained/Training.epochs = 7', 'small_resnet.blocks = 2'],
  )
  saved = _file(tmp_path, loaded.operative_config)
  (again,) = experiment.load(study='quickstart', gin_files=[saved])
  assert again == loaded


def test_a_training_names_its_settings_as_gin_does():
  training = _training(bindings=['small_resnet.blocks = 2'])
  model = config.factory(training.model)
  settings = training.settings(model)
  assert settings['Training.model'] == 'small_resnet'
  assert settings['small_resnet.blocks'] == 2
  names = {name.removeprefix('Training.') for name in settings}
  # How often a training is saved changes nothing of it.
  assert set(Training.__dataclass_fields__) - names == {'checkpoint_seconds'}
