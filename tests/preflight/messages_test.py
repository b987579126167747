"""Tests of what is read from messages of XLA and of the TPU compiler."""

import os

import pytest

from roar_tf import errors
from roar_tf.preflight import compiling, environment, lowering


@pytest.mark.parametrize(
  'message, reason',
  [
    (
      # As TensorFlow 2.20 says it.
      "Failed getting HLO text: 'Detected unsupported operations when trying "
      'to compile graph __inference_f_47[] on XLA_TPU_JIT: AsString (No '
      "registered 'AsString' OpKernel for XLA_TPU_JIT devices compatible with "
      'node {{node AsString}}){{node AsString}}\nOne approach is to outside',
      'operation AsString: TPUs have no such operation',
    ),
    (
      "Failed getting HLO text: 'must be static {{node body/Reshape_1}}\nat",
      'operation body/Reshape_1: must be static {{node body/Reshape_1}}',
    ),
    ('', 'no reason'),
  ],
)
def test_one_sentence_names_the_operation_if_xla_does(message, reason):
  assert lowering.reason(message) == reason


@pytest.mark.parametrize(
  'message, needed',
  [
    ('Ran out of memory. Used 37.5G of 15.75G hbm. Exceeded', 37.5 * 2**30),
    ('Used 512.0M of 96M hbm.', 512 * 2**20),
    ('Allocation (size=102400000000) would exceed memory', None),
  ],
)
def test_memory_that_was_needed_is_read(message, needed):
  assert compiling.DoesNotFitError(message).needed == needed


def test_an_environment_without_the_compiler_says_how_to_get_it(monkeypatch):
  monkeypatch.setattr(environment, 'PACKAGES', ('numpy', 'no-such-package'))
  with pytest.raises(errors.UsageError) as refusal:
    environment.check()
  message = str(refusal.value)
  assert 'no-such-package' in message and 'numpy' not in message
  assert 'make preflight' in message
  assert "pip install 'roar_tf[preflight]'" in message


def test_settings_of_the_user_are_kept(monkeypatch):
  monkeypatch.setenv('TPU_WORKER_ID', '3')
  monkeypatch.delenv('TPU_SKIP_MDS_QUERY', raising=False)
  environment.prepare()
  assert os.environ['TPU_WORKER_ID'] == '3'
  assert os.environ['TPU_SKIP_MDS_QUERY'] == '1'
