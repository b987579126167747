"""Runs the recipe of docs/guides/retrain_elsewhere.md."""

import pathlib
import re
import shutil

from roar_tf.analysis import results

PAGE = pathlib.Path(__file__).parents[2] / 'docs/guides/retrain_elsewhere.md'


def follow(finished, tiny, tool, folder, accuracy_of=None) -> None:
  """Retrains on the masked images of a study, and reports on it.

  Args:
    finished: a workspace, of whose runs nothing is used.
    tiny: its study.
    tool: the fixture.
    folder: the working directory.
    accuracy_of: what trains, in the place of the page's PyTorch.
  """
  shutil.copytree(finished, folder / 'workspace')
  shutil.rmtree(folder / 'workspace/runs')
  names = {}
  load, train, loop = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S)
  exec(load.replace('planted_patch', 'tiny'), names)
  code = compile(train, 'torch', 'exec')
  if accuracy_of:
    names['accuracy_of'] = accuracy_of
  else:
    exec(code, names)
  axes = "('random', 'grad'), (30, 70), 2"
  exec(loop.replace("('random', 'grad', 'sobel'), (30,), 3", axes), names)
  outcome = tool(
    'roar_report',
    f'--study={tiny.study}',
    *tiny.flags(folder / 'workspace'),
    '--results=pytorch.csv',
    '--output=elsewhere',
  )
  assert outcome.status == 0, outcome.err
  frame = results.read_csv('elsewhere/results.csv')
  assert len(frame) == 10 and frame['accuracy'].between(0.2, 1).all()
  assert (folder / 'elsewhere/index.html').exists()
