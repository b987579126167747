"""A store that TensorFlow's client of Cloud Storage finds under gs://."""

import fake_gcs
import pytest


@pytest.fixture
def gcs(monkeypatch):
  """A `FakeGcs`; this process and those that it starts see it."""
  with fake_gcs.FakeGcs() as store:
    for name, value in store.environment.items():
      monkeypatch.setenv(name, value)
    yield store
