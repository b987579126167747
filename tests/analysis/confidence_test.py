"""Simulated studies: do intervals cover, and verdicts err as rarely as told?"""

import importlib.util
import pathlib

import numpy as np
import pandas as pd
import pytest

from roar_tf.analysis import evidence, judging, paper, results

PROGRAM = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'confidence.py'


@pytest.fixture(scope='module')
def confidence():
  spec = importlib.util.spec_from_file_location('confidence', PROGRAM)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('kind', ['like the paper', '0.1 to 1.5', '1.5'])
def test_pointwise_intervals_of_five_seeds_cover(confidence, kind):
  covered = confidence.simulate(8000, confidence.FIXED, kind).covered
  assert (0.93 <= covered.mean(0)).all() and (covered.mean(0) <= 0.97).all()


def test_looks_find_what_the_paper_found_from_fewer_trainings(confidence):
  found = confidence.simulate(2000, confidence.SEQUENTIAL, 'like the paper')
  assert confidence.CLEAR.sum() == 36
  assert found.right[:, confidence.CLEAR].all(1).mean() >= 0.99
  assert found.trainings.mean() <= 460
  fixed = confidence.simulate(2, confidence.FIXED, '0.75')
  assert (fixed.trainings == 1050).all()


@pytest.mark.parametrize('design', ['FIXED', 'SEQUENTIAL'])
@pytest.mark.parametrize('kind', ['0.1 to 1.5', '0.75'])
@pytest.mark.parametrize('heavy', [False, True])
def test_a_study_of_nothing_rarely_finds_something(
  confidence, design, kind, heavy
):
  found = confidence.simulate(
    3000, getattr(confidence, design), kind, null=True, heavy=heavy
  )
  assert found.wrong.any((1, 2)).mean() <= 0.05


def test_the_simulation_decides_what_the_product_decides(confidence):
  design = confidence.SEQUENTIAL
  generator = np.random.default_rng(0)
  names = [name for name in paper.estimators() if name != 'random']
  sources, seeds = len(confidence.SOURCES), design.looks[-1]
  lead = generator.normal(0, 0.03, (sources, len(names), 1))
  random = 0.6 + 0.005 * generator.standard_normal(
    (sources, 1, design.random_seeds)
  )
  own = 0.6 - lead + 0.005 * generator.standard_normal((*lead.shape[:2], seeds))
  words, used, *_ = confidence.decided(random, own, 0, np.nan, design)
  rows = [
    ('study', source, name, 'pixel', 'remove', t, 'mean', 'image', seed, a)
    for i, source in enumerate(confidence.SOURCES)
    for name, heights in [
      ('random', random[i, 0]),
      *zip(names, own[i], strict=True),
    ]
    for seed, a in enumerate(heights)
    for t in design.nodes
  ]
  columns = [*results.COLUMNS][:10]
  frame = pd.DataFrame(rows, columns=columns)
  frame = frame.assign(
    top5=1.0, steps=1, test_images=100, seconds=1.0, explained_seed=0
  )
  rules = evidence.Rules(
    looks=design.looks,
    spending=design.spending,
    random_seeds=design.random_seeds,
  )
  judged = {
    (v.curve.source, v.estimator): v
    for v in judging.judge(evidence.Evidence(frame, rules=rules))
    if v.member
  }
  assert len(judged) == confidence.COMPARISONS
  for i, source in enumerate(confidence.SOURCES):
    for j, name in enumerate(names):
      found = judged[source, name]
      assert (found.word, found.seeds) == (words[i, j], used[i, j])
  assert {*words.ravel()} >= {'better', 'worse', 'undecided'}
