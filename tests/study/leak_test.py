"""Whether the benchmark notices that masks tell the class: the leak."""

import pandas as pd
import pytest

SMALL = (
  '--study=quickstart',
  "--gin_bindings=Study.estimators = ('random', 'oracle')",
  "--gin_bindings=Study.design = 'fixed'",
  '--gin_bindings=Study.curves = ()',
  '--gin_bindings=Study.curve_thresholds = ()',
  '--gin_bindings=Study.seeds = 1',
  '--gin_bindings=Study.random_seeds = 1',
  '--gin_bindings=Study.deletion = False',
)
CHANCE, TEST_IMAGES = 0.1, 2000


@pytest.mark.slow
@pytest.mark.parametrize('dataset', ['planted_patch', 'planted_patch_leaky'])
def test_masks_leak_where_the_place_of_the_patch_tells_its_class(
  dataset, tool, tmp_path
):
  place = f'--workspace={tmp_path}'
  outcome = tool('roar_study', *SMALL, f'--dataset={dataset}', place)
  assert outcome.status == 0, outcome.err
  report = tmp_path / 'reports/quickstart'
  frame = pd.read_csv(report / 'results.csv')
  masks = frame[frame['input'] == 'maskonly'].set_index('estimator')['accuracy']
  table = pd.read_csv(report / 'statistics.csv')
  leaks = table[table['quantity'] == 'alarm_leak']
  # Five standard errors of a test set at chance.
  luck = 5 * (CHANCE * (1 - CHANCE) / TEST_IMAGES) ** 0.5
  assert abs(masks['random'] - CHANCE) < luck
  if dataset == 'planted_patch':
    # An alarm, which has a level of 5 %, may be luck; a large leak cannot.
    assert abs(masks['oracle'] - CHANCE) < luck
  else:
    assert masks['oracle'] > 0.9
    assert list(leaks['estimator']) == ['oracle']
    assert leaks['value'].item() == pytest.approx(masks['oracle'])
    assert leaks['high'].item() < 0.15
    assert 'mask' in (report / 'index.html').read_text()
