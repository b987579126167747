"""What several tests of datasets share."""

import numpy as np
import pytest


@pytest.fixture(scope='session')
def read():
  """Function that reads a part of a split: {feature: values}."""

  def examples(reader, split, start, stop, size=500):
    batches = list(reader.batches(split, start, stop, size))
    assert all(len(batch['id']) <= size for batch in batches)
    return {
      name: np.concatenate([batch[name] for batch in batches])
      for name in batches[0]
    }

  return examples
