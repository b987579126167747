"""`roar_tf VERB`: everything that roar_tf does, by one command."""

import importlib
import sys

from roar_tf import cli, cli_help, errors

VERBS = {
  'study': (
    'roar_study',
    'run a study: all stages, resuming what is unfinished',
  ),
  'list': ('roar_study', 'list the runs of a study'),
  'plan': ('roar_study', 'tell what is left of a study, and what it takes'),
  'status': ('roar_study', 'tell what is done, and who works on the rest'),
  'clean': ('roar_study', 'delete what can be made again'),
  'rank': ('roar_rank', 'rank the pixels of a dataset with some estimators'),
  'shards': ('roar_shards', 'write the masked images of one cell'),
  'train': ('roar_train', 'retrain one model on one cell'),
  'report': ('roar_report', 'report on the runs that are there'),
  'compare': ('compare', 'show two studies side by side'),
  'verify': ('roar_shards', 'check every checksum of a workspace'),
  'repair': ('roar_shards', 'make again what is damaged'),
  'params': ('params', 'list the gin parameters'),
  'toy': ('roar_toy', 'show on toy data why ROAR retrains'),
  'preflight': ('roar_preflight', 'compile a study for TPUs, without a TPU'),
}
"""Verbs, the modules of `roar_tf.tools` that do them, and what they do."""

_ABOUT = """Tests whether a feature-importance method finds what a model uses.

roar_tf study --study=quickstart
roar_tf plan --study=paper
roar_tf VERB --help

Verbs:
{}

`roar_study` is short for `roar_tf study`, and so it is for rank, shards, train,
report, toy and preflight."""


def run() -> None:
  """Entry point of the installed command `roar_tf`."""
  word, *rest = sys.argv[1:] or ['']
  if word == 'help':
    word, *rest = *rest, '--help'
  sys.argv[:] = ['roar_tf', *filter(None, [word]), *rest]
  if word not in VERBS:
    if word.lstrip('-') not in cli_help.ASKS:
      sys.argv.insert(1, '--')  # It is a word, whatever it looks like.
    verbs = '\n'.join(
      f'  {verb:<11}{text}' for verb, (_, text) in VERBS.items()
    )
    cli.Verb(_refuse, _ABOUT.format(verbs), (), 'VERB').run()
  sys.argv[:2] = [f'roar_tf {word}']
  tool = importlib.import_module(f'roar_tf.tools.{VERBS[word][0]}')
  verb = getattr(tool, 'VERBS', {}).get(word)
  (verb or tool).run()


def _refuse(verb: str = '', *_: str) -> None:
  """Says that there is no such verb."""
  if not verb or verb.startswith('-'):
    found = f', found "{verb}" before it' if verb else ''
    raise errors.UsageError(
      f'begin with a verb, as in `roar_tf study`{found}; see --help.'
    )
  raise errors.UsageError(
    f'there is no verb "{verb}".{errors.nearest(verb, VERBS)} Known: '
    f'{", ".join(VERBS)}; see --help.'
  )


if __name__ == '__main__':
  run()
