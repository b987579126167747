"""Tests of roar_preflight without the TPU compiler."""

import pytest

from roar_tf.preflight import environment


@pytest.mark.parametrize(
  'arguments, words',
  [
    (['--topology=v9:2x2'], ['v9:2x2', 'v5e:2x2', 'v4:2x2x1']),
    (['--functions=training,masks'], ['masks', 'attribution']),
    ([], ['--dataset']),
    (
      ['--study=quickstart', "--gin_bindings=Study.estimators = ('gard',)"],
      ['gard', '"grad"'],
    ),
    (['--precision=float8'], ['precision', 'bfloat16']),
    (['--dataset=cifar10', '--rates=r.json'], ['--rates', '--study']),
    (
      [
        *('--study=quickstart', '--rates=r.json'),
        *('--topology=v5e:2x2', '--topology=v4:2x2x1'),
      ],
      ['--rates', 'one --topology'],
    ),
  ],
)
def test_bad_usage_is_one_sentence(refused, arguments, words):
  refused('roar_preflight', arguments, words)


def test_without_the_compiler_it_says_how_to_get_it(refused, tiny, monkeypatch):
  monkeypatch.setattr(environment, 'PACKAGES', ('no-such-package',))
  refused(
    'roar_preflight', [f'--study={tiny.study}'], ['make preflight', 'no-such']
  )
