"""Ranking on two replicas gives the bytes of one device."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name('mirrored_program.py')
BINDING = (
  "Study.estimators = ('random', 'sobel', 'grad', 'sg_sq_gb', 'ig', 'oracle')"
)


def _rankings(root):
  found = {}
  for path in sorted((root / 'tfds/roar_tiny').glob('ranking_*/**/*')):
    if path.is_file():
      name = str(path.relative_to(root))
      data = path.read_bytes()
      if path.name.endswith('DONE'):
        done = json.loads(data)
        # How many examples were scored at once is recorded, not compared.
        batch, _ = done.pop('batch', None), done.pop('checksum')
        assert batch is None or batch % 128 == 0
        data = done
      found[name] = data
  return found


def test_two_replicas_write_the_bytes_of_one_device(
  damaged, tiny, make, tmp_path_factory
):
  bindings = [BINDING, "Attribution.target = 'label'"]
  # Rankings of another target are in the way.
  for path in (damaged / 'tfds/roar_tiny').glob('ranking_grad*'):
    path.rename(tmp_path_factory.mktemp('aside') / 'x')
  one = shutil.copytree(damaged, tmp_path_factory.mktemp('one') / 'w')
  make(tiny.pipeline(one, *bindings), 'rank')
  subprocess.run(
    [sys.executable, PROGRAM, damaged, tiny.study, tiny.data_dir, *bindings],
    check=True,
    env={**os.environ, 'PYTHONPATH': str(PROGRAM.parents[2])},
    timeout=240,
  )
  found, expected = _rankings(damaged), _rankings(one)
  assert found == expected
  assert len({name.split('/')[2] for name in found}) == 6
