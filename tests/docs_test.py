"""The documentation says what there is: commands, files, versions.

Sphinx checks its links and its contents (`make docs`); this needs no Sphinx.
"""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from roar_tf import __main__

ROOT = pathlib.Path(__file__).resolve().parents[1]
TOOLS = sorted({tool for tool, _ in __main__.VERBS.values()})
PAGES = [
  path
  for path in (*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'))
  if path.name != 'CHANGELOG.md'  # Of the past, too.
  and not {'_build', 'generated'} & {*path.parts}
]
# What stands for a number in an example.
NUMBERS = r'"?\$(?:\w+|\(\w+\))"?|\b[NP]\b'
# Parses argument lists that it reads as JSON, and prints what is wrong.
PARSER = """
import importlib, json, sys
from absl import flags
from roar_tf.cli_flags import FLAGS
tool = importlib.import_module(f'roar_tf.tools.{sys.argv[1]}')
for argv in json.load(sys.stdin):
  FLAGS.unparse_flags()
  verb = getattr(tool, 'VERBS', {}).get(argv[0])
  try:
    rest = FLAGS(argv)[1:]
    if rest and not (verb and verb.words):
      print(*argv, f': unexpected {rest}')
    given = {name for name in FLAGS if FLAGS[name].present}
    if verb and given - set(verb.flags):
      print(*argv, f': it does not take {given - set(verb.flags)}')
  except flags.Error as e:
    if 'Missing value' not in str(e):  # Of a flag that a sentence names.
      print(*argv, f': {e}')
assert 'tensorflow' not in sys.modules
"""


def _examples(tool: str) -> list[list[str]]:
  """Returns the arguments of every call of a tool in the documentation."""
  verbs = [verb for verb, (name, _) in __main__.VERBS.items() if name == tool]
  tool = rf'(?:{tool}|roar_tf (?:{"|".join(verbs)}))(?=[ `])'
  line_of_code = rf'^(?:    |!|.*exec |.*/bin/)(?:\w+=\S+ )*({tool}.*)$'
  in_a_sentence = rf'`({tool}[^`]*)`'
  found = []
  for page in PAGES:
    text = page.read_text(encoding='utf-8').replace('\\\n', ' ')
    for call in (
      *re.findall(line_of_code, text, re.M),
      *re.findall(in_a_sentence, text),
    ):
      call = re.sub(r'2?>\S+', '', call)  # What the shell takes away.
      call = re.sub('^roar_tf ', '', re.sub(NUMBERS, '1', call))
      words = shlex.split(call, comments=True)
      found.append([word for word in words if word != '...'])
  return found


@pytest.mark.parametrize('tool', TOOLS)
def test_commands_of_the_documentation_have_flags_that_exist(tool):
  examples = _examples(tool)
  done = subprocess.run(
    [sys.executable, '-c', PARSER, tool],
    input=json.dumps(examples),
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert (done.stdout, done.returncode) == ('', 0), done.stderr


def test_documentation_names_files_that_exist():
  named = r'`((?:docs|tests|benchmarks|gin|tools|roar_tf)/[\w/.]+\.\w+)'
  link = r'\]\((?!\w+:|#)([^)#\s]+)'
  for page in PAGES:
    text = page.read_text(encoding='utf-8')
    for target in re.findall(named, text):
      assert (ROOT / target).exists(), f'{page}: {target}'
    for target in re.findall(link, text):
      assert (page.parent / target).exists(), f'{page}: {target}'
