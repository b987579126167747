"""Sphinx configuration: `make docs` builds the pages into docs/_build/html.

Everything is made on this machine, and the pages ask the network for nothing.
"""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))  # reference_pages.py
# The commands of the environment that runs Sphinx, for cells such as
# `!roar_study`, and for the pages of commands.
os.environ['PATH'] = os.pathsep.join(
  [os.path.dirname(sys.executable), os.environ.get('PATH', '')]
)
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from roar_tf import silence  # noqa: E402

with silence.silent():
  import tensorflow  # noqa: F401  Later it would not be silent.

import reference_pages  # noqa: E402

import roar_tf  # noqa: E402

project = 'roar_tf'
author = 'The roar_tf authors'
copyright = author
version = release = roar_tf.__version__

extensions = [
  'myst_nb',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
]
exclude_patterns = ['_build', 'reference/generated']

# Notebooks are Markdown files. They are run when they, or what they are run
# with, have changed; their outputs are kept in the cache in between.
nb_execution_mode = 'cache'
nb_execution_cache_path = str(HERE / '_build' / 'notebooks')
# Needs other libraries: `make peers` runs it, and its outputs are kept.
nb_execution_excludepatterns = ['tutorials/captum_and_xplique.ipynb']
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # Seconds a cell, on a machine that is busy.
nb_merge_streams = True
nb_output_stderr = 'remove'  # TensorFlow's, when it starts.
myst_enable_extensions = ['colon_fence', 'deflist']
myst_heading_anchors = 3

# In docstrings `x` is code.
default_role = 'code'
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = 'furo'
html_title = f'roar_tf {release}'
html_static_path = ['static']
html_css_files = ['roar.css']
html_show_sourcelink = False
html_show_copyright = False
templates_path = []


def setup(app):
  """Has the parts of the reference made that come from the program itself."""
  app.connect('builder-inited', lambda _: reference_pages.write(HERE))
  # Before napoleon, which takes the sections of docstrings apart.
  app.connect(
    'autodoc-process-docstring', reference_pages.mark_examples, priority=100
  )
