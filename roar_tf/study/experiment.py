"""One source's whole configuration, frozen and free of gin's global state."""

import dataclasses
import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin

from roar_tf import config, errors, own_code, ranking
from roar_tf.datasets.source import Source
from roar_tf.estimators import registry
from roar_tf.estimators.settings import Settings
from roar_tf.models import given, resnet
from roar_tf.study.grid import Study
from roar_tf.training.settings import Training

# Their configurables must exist before a gin file is parsed.
_CONFIGURABLES = (resnet,)

Attribution = gin.external_configurable(Settings, 'Attribution')
Ranking = gin.external_configurable(ranking.Ranking, 'Ranking')


@dataclasses.dataclass(frozen=True)
class Configuration:
  """What a command line says of an experiment, as text.

  Attributes:
    study: name of a study, or path of its gin file.
    dataset: name of one source, or path of its gin file; all sources of the
      study if None.
    gin_files: the user's files, parsed after those of dataset and study.
    gin_bindings: the user's bindings, parsed last.
    seed: seed of rankings and of the explained model, first seed of the runs.
  """

  study: str | None = None
  dataset: str | None = None
  gin_files: tuple[str, ...] = ()
  gin_bindings: tuple[str, ...] = ()
  seed: int = 0

  def load(self) -> 'list[Experiment]':
    """Returns an Experiment per source; see `load`."""
    return load(**vars(self))

  def command(self, tool: str, *more: str) -> str:
    """Returns a command line for this configuration, quoted for a shell.

    Args:
      tool: name of the command.
      *more: flags that follow those of the configuration.
    """
    flags = [f'--study={self.study}'] if self.study else []
    flags += [f'--dataset={self.dataset}'] if self.dataset else []
    flags += [f'--gin_file={file}' for file in self.gin_files]
    flags += [f'--gin_bindings={binding}' for binding in self.gin_bindings]
    return shlex.join([tool, *flags, *more])


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What one source means under one study.

  Attributes:
    source: the dataset.
    study: the axes of the study, or None when a tool works on single cells.
    attribution: settings of the estimators.
    ranking: how scores become rankings.
    explained: training of the explained model (gin scope `explained`); like
      the next three, None where nothing is trained.
    retrained: training of every run.
    explained_model: its factory and arguments.
    retrained_model: likewise.
    given: the explained model if it is not trained here.
    seed: seed of rankings and of the explained model, first seed of the runs.
    operative_config: the gin parameters in force, defaults included.
    builder: what fingerprints record of a TFDS builder of the user's own.
    bindings: what gin binds to code of the user's own, see `own_code.bindings`.
    configuration: what asks for this experiment again.
  """

  source: Source
  study: Study | None
  attribution: Settings
  ranking: ranking.Ranking
  explained: Training | None
  retrained: Training | None
  explained_model: config.Factory | None
  retrained_model: config.Factory | None
  given: given.ExplainedModel | None
  seed: int
  operative_config: str
  builder: Mapping = dataclasses.field(default_factory=dict)
  bindings: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
  configuration: Configuration = dataclasses.field(
    default=Configuration(), compare=False
  )

  @property
  def code(self) -> tuple[tuple[str, str], ...]:
    """All code of the user's own that may be used, as (name, version).

    Processes that share the work must agree on it.
    """
    code = {**self.builder}
    for factory in (self.explained_model, self.retrained_model):
      code |= factory.code if factory else {}
    for name in registry.registered():
      if own := registry.parse(name).base.code:
        code |= own.settings(self.bindings)
    return tuple(sorted((name, str(value)) for name, value in code.items()))


def of_source(source: Source, ranking_: ranking.Ranking) -> Experiment:
  """Returns what makes and reads datasets of a source; it has no models."""
  return Experiment(
    source=source,
    study=None,
    attribution=Settings(),
    ranking=ranking_,
    explained=None,
    retrained=None,
    explained_model=None,
    retrained_model=None,
    given=None,
    seed=0,
    operative_config='',
  )


def load(
  *,
  study: str | None = None,
  dataset: str | None = None,
  gin_files: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  seed: int = 0,
) -> list[Experiment]:
  """Returns an Experiment per source; the arguments are `Configuration`'s.

  Raises:
    UsageError: a name, file or parameter is unknown or impossible.
  """
  if not 0 <= seed < 2**31:
    raise errors.UsageError(f'--seed must be 0..2^31 - 1, found {seed}.')
  study_files = [config.find('studies', study)] if study else []
  own_files = [*reversed(gin_files), *study_files]  # The likeliest first.
  sources: Sequence[str] = [dataset or '']
  if not dataset:
    config.parse([*study_files, *gin_files], gin_bindings)
    named = gin.get_bindings('Study').get('sources')
    if not _are_names(named):  # It says what is wrong.
      named = config.configured(Study, config.stem(study or 'study')).sources
    beside = functools.partial(config.beside, own_files, gin_bindings)
    sources = [
      beside('Study.sources', source) if source.endswith('.gin') else source
      for source in named
    ]
  experiments, mistakes = [], errors.Mistakes()
  for source in sources:
    with mistakes.noted():
      file = config.find('datasets', source)
      config.parse([file, *study_files, *gin_files], gin_bindings)
      beside = functools.partial(
        config.beside, [file, *own_files], gin_bindings
      )
      experiments.append(
        dataclasses.replace(
          _frozen(config.stem(source), study, seed, beside),
          configuration=Configuration(
            study, source, tuple(gin_files), tuple(gin_bindings), seed
          ),
        )
      )
  mistakes.check()
  if any(e.bindings != experiments[0].bindings for e in experiments):
    # Such code reads what gin holds when it is called, whatever the source.
    raise errors.UsageError(
      'The sources of one study bind different gin parameters of code of your '
      'own: bind them in the file of the study, or run the sources one by one '
      'with --dataset.'
    )
  names = [experiment.source.name for experiment in experiments]
  if len(set(names)) < len(names):
    raise errors.UsageError(f'Two sources have the same name: {names}.')
  return experiments


def _are_names(sources: object) -> bool:
  """Whether something is what `Study.sources` should be."""
  return (
    isinstance(sources, tuple | list)
    and bool(sources)
    and all(isinstance(source, str) for source in sources)
  )


def _frozen(
  source: str,
  study: str | None,
  seed: int,
  beside: Callable[[str, str], str],
) -> Experiment:
  """Reads every configurable once under the current gin configuration.

  Args:
    source: name of the source.
    study: name of the study or its gin file.
    seed: see `Experiment`.
    beside: see `config.beside`; given the parameter and the path.
  """
  mistakes = errors.Mistakes()

  def configured(cls: Callable, *args, **kwargs) -> Any:
    with mistakes.noted():
      return config.configured(cls, *args, **kwargs)

  explained = configured(Training, scope='explained')
  retrained = configured(Training)
  source_ = configured(Source, source)
  study_ = configured(Study, config.stem(study)) if study else None
  attribution, ranking_ = configured(Attribution), configured(Ranking)
  given_ = configured(given.ExplainedModel)
  mistakes.check()
  if source_.folder:
    folder = beside('Source.folder', source_.folder)
    source_ = dataclasses.replace(source_, folder=folder)
  for name in ('file', 'weights'):
    path = getattr(given_, name)
    if path not in (None, 'imagenet'):
      path = beside(f'ExplainedModel.{name}', path)
      given_ = dataclasses.replace(given_, **{name: path})
  bindings = own_code.bindings()
  builder = (
    own_code.builder(source_.tfds_name, source_.builder_module or '')
    if source_.tfds_name
    else None
  )
  experiment = Experiment(
    source=source_,
    study=study_,
    attribution=attribution,
    ranking=ranking_,
    explained=explained,
    retrained=retrained,
    # First, whose name is `Training.model` even if both are one.
    retrained_model=config.factory(retrained.model),
    explained_model=config.factory(explained.model, scope='explained'),
    given=given_,
    seed=seed,
    operative_config='',
    builder=builder.settings(bindings) if builder else {},
    bindings=bindings,
  )
  _check_models(experiment)
  text = '\n'.join(
    [
      config.operative_config(),
      experiment.retrained_model.operative_config(),
      experiment.explained_model.operative_config(),
    ]
  )
  return dataclasses.replace(experiment, operative_config=text)


def _check_models(experiment: Experiment) -> None:
  """Raises UsageError for several explained models where one is given."""
  models = experiment.study.explained_models if experiment.study else 1
  if models > 1 and experiment.given:
    raise errors.UsageError(
      f'gin parameter Study.explained_models = {models} trains as many models, '
      f'and gin parameter {experiment.given} is the only one that there is: '
      'leave out one of them.'
    )
