"""Package definition of roar_tf.

The checkout keeps `tools/` and `gin/` at the top, where readers look for them.
Installed, they become `roar_tf.tools` and `roar_tf.configs`: a package must not
put names as general as those into site-packages, and a top-level `gin` would
collide with the gin library.
"""

import pathlib
import re

import setuptools

# Every tools/<name>.py with a `run` function; installed as a command <name>.
COMMANDS = (
  'roar_preflight',
  'roar_rank',
  'roar_report',
  'roar_shards',
  'roar_study',
  'roar_toy',
  'roar_train',
)

# tensorflow-cpu is built for these platforms only; on all others the plain
# tensorflow wheel is the one without GPU libraries.
HAS_TENSORFLOW_CPU = (
  "(sys_platform == 'linux' and platform_machine == 'x86_64')"
  " or sys_platform == 'win32'"
)
LACKS_TENSORFLOW_CPU = (
  "(sys_platform != 'linux' or platform_machine != 'x86_64')"
  " and sys_platform != 'win32'"
)

# `import tensorflow` aborts with libtpu 0.0.37 and later, which pip would take:
# tensorflow-tpu asks for ~=0.0.14. 0.0.14 to 0.0.30 load.
TPU = ['tensorflow-tpu==2.20.0', 'libtpu==0.0.21']

RAY = ['ray>=2.58']


def long_description() -> str:
  """Returns README.md without what an index of packages cannot show.

  Pictures and links into the checkout have no address there: pictures go, and
  of links their text stays.
  """
  readme = pathlib.Path(__file__).with_name('README.md')
  text = readme.read_text(encoding='utf-8')
  inside = r'\((?![a-z]+://|#)[^)]*\)'
  text = re.sub(rf'!\[[^\]]*\]{inside}\n*', '', text)
  return re.sub(rf'\[([^\]]*)\]{inside}', r'\1', text)


setuptools.setup(
  name='roar_tf',
  version='0.1.0',
  description=(
    'ROAR, RemOve And Retrain: a benchmark of feature-importance estimators'
  ),
  long_description=long_description(),
  long_description_content_type='text/markdown',
  author='The roar_tf authors',
  license_expression='Apache-2.0',
  keywords=[
    'attribution',
    'benchmark',
    'explainability',
    'feature importance',
    'interpretability',
    'keras',
    'saliency',
    'tensorflow',
  ],
  classifiers=[
    'Development Status :: 4 - Beta',
    'Environment :: Console',
    'Framework :: Jupyter',
    'Intended Audience :: Science/Research',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3 :: Only',
    'Programming Language :: Python :: 3.10',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Topic :: Scientific/Engineering :: Image Recognition',
  ],
  python_requires='>=3.10',
  packages=[
    *setuptools.find_packages(include=['roar_tf', 'roar_tf.*']),
    'roar_tf.tools',
    'roar_tf.configs',
  ],
  package_dir={'roar_tf.tools': 'tools', 'roar_tf.configs': 'gin'},
  package_data={
    'roar_tf': ['py.typed'],
    'roar_tf.analysis': ['*.csv', '*.j2'],
    'roar_tf.configs': ['**/*.gin'],
  },
  entry_points={
    'console_scripts': [
      'roar_tf = roar_tf.__main__:run',
      *(f'{command} = roar_tf.tools.{command}:run' for command in COMMANDS),
    ],
  },
  install_requires=[
    'absl-py>=2.1',
    # It reads our docstrings: `roar_tf params` and the reference pages.
    'docstring_parser>=0.15',
    'gin-config>=0.5',
    # TFDS 4.9.10 imports it when it prepares a dataset and does not declare it.
    'importlib_resources>=6.0',
    'Jinja2>=3.1',
    'keras>=3.10',
    'matplotlib>=3.8',
    'numpy>=1.26',
    'pandas>=2.2',
    'scipy>=1.13',
    'statsmodels>=0.14.2',
    'tensorflow-datasets>=4.9.10',
    'tqdm>=4.66',
  ],
  # TensorFlow itself: exactly one of `cpu`, `cuda`, `tpu` and
  # `preflight`.
  extras_require={
    'cpu': [
      f'tensorflow-cpu>=2.20; {HAS_TENSORFLOW_CPU}',
      f'tensorflow>=2.20; {LACKS_TENSORFLOW_CPU}',
    ],
    'cuda': ['tensorflow[and-cuda]>=2.20'],
    'tpu': TPU,
    # roar_study --executor=ray. Older versions listen on all networks, even if
    # the cluster is one machine.
    'ray': RAY,
    # What TFDS's command `tfds` imports and TFDS does not install (its issue
    # 5463). All else does without.
    'build': ['apache-beam>=2.60', 'mlcroissant>=1.0'],
    # The TPU compiler without a TPU, for roar_preflight, tests/preflight and
    # benchmarks/preflight.py (`make preflight`). What compiles depends on every
    # version, and so do the figures: all are pinned.
    'preflight': [
      *TPU,
      'jax==0.7.1',
      'jaxlib==0.7.1',
      'keras==3.15.0',
      'pytest>=8.0',
    ],
    # `make docs`. Their major versions change what builds without a warning.
    'docs': [
      'furo>=2025.7',
      'ipykernel>=6.29',
      'myst-nb>=1.3,<2',
      'sphinx>=8.1,<10',
    ],
    # ray (80 MB): studies run on a cluster of two nodes. dill: TFDS's test of a
    # builder imports it. jax (90 MB): exported programs run under it; 0.8 and
    # later take the NumPy and ml_dtypes of TensorFlow, and need Python 3.11.
    # setuptools: tests/packaging_test.py builds a wheel, offline.
    'test': [
      *RAY,
      'dill>=0.3',
      "jax>=0.8; python_version >= '3.11'",
      'pytest>=8.0',
      'pytest-xdist>=3.6',
      'ruff>=0.12',
      'setuptools>=77',
    ],
    # For tests/peers, benchmarks/peers.py and the notebook on captum and
    # Xplique, in an environment of their own (`make peers`): xplique takes
    # TensorFlow 2.20 at most, always the plain package, beside which `cpu` must
    # not be installed.
    'peers': [
      'captum==0.9.0',
      'ipykernel>=6.29',
      'nbclient>=0.10',
      'pytest>=8.0',
      'tensorflow==2.20.0',
      'torch==2.13.0',
      'xplique==2.0.2',
    ],
  },
)
