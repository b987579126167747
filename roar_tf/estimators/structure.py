"""What a compiled plan takes for granted of a model.

A plan reads a model's weights whenever it is called, but its layers only once,
while it is traced. `Structure` is what may change in between: layers, their
activations and settings, the variables they own, a function put in the place
of a method. Values that Python code reads elsewhere, such as a global variable
of the user's module, are not seen.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import operator
import sys
import types

import numpy as np

from roar_tf.lazy import keras

_PLAIN = frozenset(
  (int, float, complex, bool, str, bytes, type(None), type(Ellipsis))
)
_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)
"""Classes of the standard library that hold a user's settings."""

_LARGEST_ARRAY = 2**20
"""Bytes of a NumPy array that is compared by its content."""

_LIBRARIES = sys.stdlib_module_names - {'__main__'} | {
  'absl',
  'google',
  'h5py',
  'jax',
  'keras',
  'ml_dtypes',
  'numpy',
  'pandas',
  'roar_tf',
  'tensorflow',
  'torch',
}
"""Where classes come from whose objects are told apart by identity alone."""

CACHE = '_roar_tf'
"""Name of the attribute of a model that is ours."""

_BOOKKEEPING = frozenset(
  # Ours; and, of every layer, how it was made and called, losses, checkpoints.
  f"""
  {CACHE}
  _run_through_graph _allow_non_tensor_positional_args _auto_config
  _call_has_context_arg _call_has_mask_arg _call_has_training_arg
  _call_signature _convert_input_args _input_spec _non_trainable_variables
  _seed_generators
  _supports_masking _trainable_variables build quantize supports_jit
  _build_shapes_dict _call_context_args _called _inbound_nodes _lock _loss_ids
  _losses _losses_override _metrics _outbound_nodes _parent_path _path
  _saved_model_arg_spec _saved_model_inputs_spec _self_name_based_restores
  _self_saveable_object_factories _self_setattr_tracking
  _self_unconditional_checkpoint_dependencies
  _self_unconditional_deferred_dependencies
  _self_unconditional_dependency_names _self_update_uid _tracked _tracker
  _trainable activity_regularizer built call_signature_parameters name
  """
  # Of graphs of layers, whose operations are enough.
  """
  _inputs _inputs_struct _nodes _nodes_by_depth _operations_by_depth _outputs
  _outputs_struct
  """
  # Of models that are trained.
  """
  _compile_config _compile_loss _compile_metrics _compiled_trainable_state
  _compute_loss_has_training_arg _distribute_strategy _eval_epoch_iterator
  _initial_epoch _jit_compile _loss_tracker _run_eagerly compiled history loss
  optimizer predict_function steps_per_execution stop_evaluating
  stop_predicting stop_training test_function train_function
  unrolled_steps_per_execution
  """.split()
)


class Structure:
  """The structure of a model at one moment; equal ones share compiled plans.

  It holds what it saw, so that no other object takes the identity of one.
  """

  def __init__(self, model):
    self._values = []
    self._objects = []
    seen = set()
    waiting = [model]
    while waiting:
      value = waiting.pop()
      if id(value) in seen:
        self._objects.append(value)
        continue
      seen.add(id(value))
      for inside in self._inside(value):
        if type(inside) in _PLAIN:
          self._values.append(inside)
        else:
          waiting.append(inside)

  def __eq__(self, other) -> bool:
    """Whether a plan compiled for one is right for the other."""
    if not isinstance(other, Structure):
      return NotImplemented
    return (
      len(self._objects) == len(other._objects)
      and all(map(operator.is_, self._objects, other._objects))
      and self._values == other._values
    )

  __hash__ = None

  def _inside(self, value) -> list:
    """Notes what a value is, and returns what is inside it."""
    kind = type(value)
    if isinstance(value, keras.layers.Layer):
      # Methods may be replaced, for one layer or for its class.
      self._objects += [value, kind.call]
      return [
        inside
        for item in value.__dict__.items()
        if item[0] not in _BOOKKEEPING
        for inside in item
      ]
    if isinstance(value, keras.Variable):
      # The same variable may get another value inside it.
      self._objects += [value, value.value]
      return []
    if isinstance(value, dict):
      self._values.append(len(value))
      return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
      # Keras wraps the lists of a layer anew: what they are does not matter.
      self._values.append(len(value))
      return [*value]
    if isinstance(value, np.ndarray) and value.nbytes <= _LARGEST_ARRAY:
      return [value.shape, value.dtype.str, value.tobytes()]
    self._objects.append(value)
    if not _is_users(kind) or not hasattr(value, '__dict__'):
      return []
    named = (item for item in vars(value).items() if item[0] != CACHE)
    return [kind, *itertools.chain(*named)]


@functools.cache
def _is_users(kind: type) -> bool:
  """Whether a class is a user's, whose objects may hold anything."""
  if issubclass(kind, type):
    return False
  module = kind.__module__.partition('.')[0]
  return module not in _LIBRARIES or kind in _NAMESPACES
