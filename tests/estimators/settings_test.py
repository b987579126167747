"""Tests of the settings of estimators."""

import numpy as np
import pytest

from roar_tf.estimators import settings as estimator_settings


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'samples': 0}, 'samples must be .* at least 1, found 0'),
    ({'samples': True}, 'samples must be .* found True'),
    ({'batch_size': 0}, 'batch_size must be .* at least 1, found 0'),
    ({'target': 'true'}, "target must be one of .* found 'true'"),
    ({'sobel': 'x'}, "sobel must be one of .* found 'x'"),
    ({'noise': float('inf')}, 'noise .* found inf'),
    ({'noise': '0.1'}, "noise .* found '0.1'"),
    ({'samples': 1.5}, 'samples .* found 1.5'),
    ({'max_size': 4}, 'max_size must be odd.* found 4'),
    ({'blur_sigma': -1}, 'blur_sigma must be .* not negative, found -1'),
    ({'noise': float('nan')}, 'noise .* found nan'),
    ({'noise': 25.5}, r'over \(max - min\) of each image.* found 25.5: divide'),
    ({'noise': True}, 'noise .* found True'),
    ({'steps': np.float32(3)}, 'steps .* found '),
    ({'quadrature': 'simpson'}, "quadrature must be one of .* found 'simpson'"),
    ({'precision': 'float8'}, "precision must be one of .* found 'float8'"),
    ({'jit_compile': 'yes'}, "jit_compile must be True or False, found 'yes'"),
  ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    estimator_settings.Settings(**settings)


def test_numbers_of_numpy_are_numbers():
  plain = estimator_settings.Settings(samples=3, steps=4, noise=0.25)
  found = estimator_settings.Settings(
    samples=np.int64(3), steps=np.uint8(4), noise=np.float32(0.25)
  )
  assert found == plain and hash(found) == hash(plain)
  assert [type(x) for x in (found.samples, found.noise)] == [int, float]
