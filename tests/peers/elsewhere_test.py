"""The recipe of docs/guides/retrain_elsewhere.md, as it stands there."""

import elsewhere
import pytest


@pytest.mark.peers
def test_the_recipe_with_pytorch(finished, tiny, tool, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  elsewhere.follow(finished, tiny, tool, tmp_path)
