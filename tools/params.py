"""Lists the gin parameters, which `--gin_bindings` and gin files set.

roar_tf params
roar_tf params Study.seeds Training

A name is that of a parameter, or of what has parameters; with names, the whole
meaning is printed. Training.epochs is of
every retraining, and explained/Training.epochs of the explained model.
"""

from roar_tf import cli


def main(*names: str) -> None:
  """Prints name, type, default and meaning of every parameter asked for."""
  from roar_tf.study import parameters

  found = parameters.find(names)
  print('\n'.join(parameter.text(bool(names)) for parameter in found))


VERBS = {'params': cli.Verb(main, __doc__, (), '[NAME ...]')}

if __name__ == '__main__':
  VERBS['params'].run()
