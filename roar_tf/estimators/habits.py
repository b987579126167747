"""What captum and Xplique call the arguments of `explain`.

A name is taken where it means the same there and here. Where it means something
else, the refusal says what to give instead.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TypeVar

from roar_tf import errors

_Function = TypeVar('_Function', bound=Callable)
"""For editors, which then know the arguments of `explain`."""

NAMES = {
  'inputs': 'images',
  'target': 'targets',
  'baselines': 'baseline',
  'baseline_value': 'baseline',
  'n_steps': 'steps',
  'nt_samples': 'samples',
  'nb_samples': 'samples',
  'internal_batch_size': 'batch_size',
}
"""What other libraries call an argument that means the same."""

_OTHERS = {
  'stdevs': 'is in units of the images there: give noise, the standard '
  'deviation over (max - min) of each image',
  'nt_type': 'is part of the name here: give sg_grad, sg_sq_grad or var_grad',
  'method': 'is called quadrature here: give "riemann_right" or '
  '"gauss_legendre"',
  'reducer': 'has no place here: scores keep their channels, and rank sums '
  'over them',
  'abs': 'has no place here: scores keep their signs; take their magnitudes, '
  'or square them by the prefix sq_',
  'operator': 'has no place here: the logit of each target is explained',
  'additional_forward_args': 'has no place here: give a model of images alone',
}
"""What means something else, or nothing, and what to do."""


def accepted(function: _Function) -> _Function:
  """Decorates `explain` so that it takes `NAMES`, and tensors of PyTorch.

  Raises:
    UsageError: when it is called: an argument is given under two names, or
      under one that means nothing here.
  """
  parameters = [*inspect.signature(function).parameters]

  @functools.wraps(function)
  def call(*args, **kwargs):
    for name in [name for name in kwargs if name not in parameters]:
      ours = NAMES.get(name)
      if ours is None:
        raise errors.UsageError(_refusal(name, parameters))
      if ours in kwargs or parameters.index(ours) < len(args):
        raise errors.UsageError(
          f'explain is given {ours} and {name}, which mean the same: leave '
          'out one of them.'
        )
      kwargs[ours] = kwargs.pop(name)
    args = map(as_array, args)
    return function(*args, **{k: as_array(v) for k, v in kwargs.items()})

  return call


def _refusal(name: str, parameters: list[str]) -> str:
  """Returns why there is no argument of a name."""
  if name in _OTHERS:
    return f'explain takes no {name}: it {_OTHERS[name]}.'
  hint = errors.nearest(name, [*parameters, *NAMES])
  return f'explain takes no argument {name}.{hint}'


def as_array(value):
  """Returns a tensor of PyTorch as a NumPy array, all else as it is."""
  return value.detach().cpu().numpy() if hasattr(value, 'detach') else value
