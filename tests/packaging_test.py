"""A wheel built from the tree holds the whole project and nothing general."""

import ast
import configparser
import email
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Where the folders of the checkout stand in a wheel.
INSTALLED_AS = {
  'roar_tf': 'roar_tf',
  'tools': 'roar_tf/tools',
  'gin': 'roar_tf/configs',
}


def _files(folder: pathlib.Path) -> list[pathlib.PurePath]:
  """Files below `folder`, relative to it, without what Python caches."""
  return [
    path.relative_to(folder)
    for path in folder.rglob('*')
    if path.is_file() and '__pycache__' not in path.parts
  ]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
  """Wheel of a copy of the tree: a build leaves files beside its sources."""
  pytest.importorskip('setuptools', minversion='77')
  copy = tmp_path_factory.mktemp('checkout')
  for path in ROOT.iterdir():
    if path.is_file():
      shutil.copy(path, copy)
  for folder in (*INSTALLED_AS, 'tests', 'benchmarks'):
    if (ROOT / folder).exists():
      ignored = shutil.ignore_patterns('__pycache__')
      shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
  # What pip calls, without the environment that pip would download for it.
  build = 'from setuptools import build_meta; build_meta.build_wheel("dist")'
  done = subprocess.run(
    [sys.executable, '-c', build], cwd=copy, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  [path] = (copy / 'dist').glob('*.whl')
  with zipfile.ZipFile(path) as archive:
    yield archive


@pytest.fixture(scope='module')
def commands(wheel):
  """Console scripts of the wheel: name -> 'module:function'."""
  [name] = [n for n in wheel.namelist() if n.endswith('/entry_points.txt')]
  parser = configparser.ConfigParser()
  parser.read_string(wheel.read(name).decode())
  return dict(parser['console_scripts'])


def test_holds_every_file_of_the_project_and_no_other(wheel):
  expected = {
    f'{package}/{file.as_posix()}'
    for folder, package in INSTALLED_AS.items()
    for file in _files(ROOT / folder)
  }
  found = {n for n in wheel.namelist() if '.dist-info/' not in n}
  # A file missing here: a folder without __init__.py, or a kind of file that
  # package_data in setup.py does not name.
  assert sorted(found) == sorted(expected)


def test_installs_one_top_level_name(wheel):
  tops = {name.split('/')[0] for name in wheel.namelist()}
  assert {top for top in tops if not top.endswith('.dist-info')} == {'roar_tf'}


def test_holds_configs_and_templates(wheel):
  paths = [pathlib.PurePosixPath(name) for name in wheel.namelist()]
  for kind in ('datasets', 'profiles', 'studies'):
    assert any(path.match(f'roar_tf/configs/{kind}/*.gin') for path in paths)
  assert any(path.match('roar_tf/analysis/*.j2') for path in paths)


def test_a_checkout_finds_its_tools_and_the_gin_library():
  # An editable install resolves roar_tf.tools by this file only.
  assert (ROOT / 'tools' / '__init__.py').exists()
  # This one would shadow the library.
  assert not (ROOT / 'gin' / '__init__.py').exists()


def test_has_the_version_of_the_package(wheel):
  tree = ast.parse((ROOT / 'roar_tf' / '__init__.py').read_text())
  [version] = [
    ast.literal_eval(node.value)
    for node in tree.body
    if isinstance(node, ast.Assign) and node.targets[0].id == '__version__'
  ]
  assert f'roar_tf-{version}.dist-info/METADATA' in wheel.namelist()


def test_description_has_no_link_into_the_checkout(wheel):
  [name] = [n for n in wheel.namelist() if n.endswith('.dist-info/METADATA')]
  metadata = email.message_from_bytes(wheel.read(name))
  assert metadata['License-Expression'] == 'Apache-2.0'
  description = metadata.get_payload(decode=True).decode()
  # [text](target) and [label]: target
  targets = re.findall(r'\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)', description, re.M)
  assert targets
  assert not [t for pair in targets for t in pair if t and '://' not in t]


def test_citation_has_the_version_of_the_package(wheel):
  citation = (ROOT / 'CITATION.cff').read_text()
  [version] = re.findall(r'^version: (.*)$', citation, re.M)
  assert f'roar_tf-{version}.dist-info/METADATA' in wheel.namelist()


def test_every_tool_is_a_command(commands):
  tools = {path.stem for path in (ROOT / 'tools').glob('roar_*.py')}
  assert set(commands) == tools | {'roar_tf'}


def test_every_command_has_a_function_to_call(wheel, commands):
  for name, target in commands.items():
    module, function = target.split(':')
    source = wheel.read(module.replace('.', '/') + '.py')
    defined = [
      node.name
      for node in ast.parse(source).body
      if isinstance(node, ast.FunctionDef)
    ]
    assert function in defined, f'{name} calls {target}'
