"""The examples of docs/guides/library.md run, from first to last."""

import linecache
import pathlib
import re
import shutil

import numpy as np

from roar_tf.estimators import registry

PAGE = pathlib.Path(__file__).parents[2] / 'docs/guides/library.md'


def test_the_examples_run_in_their_order(finished, tmp_path, monkeypatch):
  monkeypatch.setattr(registry, '_registry', dict(registry._registry))
  monkeypatch.chdir(tmp_path)
  shutil.copytree(finished, 'workspace')
  names = {'__name__': '__main__'}
  blocks = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S)
  for number, block in enumerate(blocks):
    block = block.replace('planted_patch', 'tiny')
    block = block.replace("'quickstart'", "'small'")
    # As a notebook does, where Python finds the source of a cell.
    cell = f'<cell {number}>'
    lines = block.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, cell, (len(block), None, lines, cell))
    exec(compile(block, cell, 'exec'), names)
  assert names['masked'].shape == (4, 8, 8, 3)
  assert set(names['scores']) == {'grad_x_input', 'sg_sq_grad_x_input'}
  assert names['ours']['verdict'] and np.isfinite(names['ours']['lead'])
  assert (tmp_path / 'attributions.pdf').stat().st_size > 1000
  assert len([*(tmp_path / 'workspace/scores/tiny/colour').iterdir()]) == 3
