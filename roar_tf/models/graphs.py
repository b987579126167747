"""Graphs of layers: what is in them, and running some of it differently.

A user's model is called as ever; while that call is traced, its graphs of
layers run other operations in place of some of their own. Nothing is copied,
and the model is left as it was.
"""

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping

from roar_tf.lazy import keras, tf

Call = Callable[..., 'tf.Tensor']

_substituting = threading.RLock()


def graph_of(layer):
  """Returns the graph of layers that a model is; None of anything else."""
  if isinstance(layer, keras.Sequential):
    layer = getattr(layer, '_functional', None)
  # Keras has no public way to run a graph of layers with some replaced.
  known = hasattr(layer, '_run_through_graph')
  return layer if known and hasattr(layer, '_nodes_by_depth') else None


def graphs_of(model) -> list:
  """Returns the graphs of layers in a model, itself included."""
  # Whatever is no Keras model is called as it is.
  flatten = getattr(model, '_flatten_layers', lambda: [])
  graphs = map(graph_of, [model, *flatten()])
  return list({id(g): g for g in graphs if g is not None}.values())


@contextlib.contextmanager
def substituted(graph, operations: Mapping[int, Call]) -> Iterator[None]:
  """Makes a graph of layers run other operations, in this thread alone."""
  original = type(graph)._run_through_graph
  owner = threading.get_ident()

  def run(inputs, operation_fn=lambda operation: operation, **arguments):
    def substitute(operation):
      if threading.get_ident() == owner and id(operation) in operations:
        return operations[id(operation)]
      return operation_fn(operation)

    return original(graph, inputs, substitute, **arguments)

  # One tracing at a time: a second one would find the first one's operations.
  with _substituting:
    graph.__dict__['_run_through_graph'] = run
    try:
      yield
    finally:
      del graph.__dict__['_run_through_graph']


def nodes_of(graph) -> list:
  """Returns the calls of operations in a graph of layers."""
  return [
    node
    for depth in graph._nodes_by_depth.values()
    for node in depth
    if node.operation and not node.is_input
  ]


def normalised_convolutions(graph) -> list[tuple]:
  """Returns (convolution, batch norm) wherever one needs only the other.

  Both are called once in the graph, and what the convolution returns is used by
  nothing but the batch norm.
  """
  nodes = nodes_of(graph)
  calls = collections.Counter(id(node.operation) for node in nodes)
  uses = collections.Counter(id(t) for n in nodes for t in n.input_tensors)
  producers = {id(t): node.operation for node in nodes for t in node.outputs}
  results = {id(t) for t in graph.outputs}
  found = []
  for node in nodes:
    norm = node.operation
    if not is_batch_norm(norm, node):
      continue
    before = node.input_tensors[0]
    convolution = producers.get(id(before))
    if (
      calls[id(norm)] == 1
      and _is_convolution(convolution)
      and convolution.dtype_policy == norm.dtype_policy
      and calls[id(convolution)] == 1
      and uses[id(before)] == 1
      and id(before) not in results
    ):
      found.append((convolution, norm))
  return found


def is_batch_norm(operation, node) -> bool:
  """Whether it normalises the last axis of images by its moving statistics.

  A subclass may do anything, ours excepted.
  """
  from roar_tf.models import batch_norm  # It defines a class of Keras'.

  return (
    type(operation)
    in (keras.layers.BatchNormalization, batch_norm.BatchNormalization)
    and operation.axis in (-1, 3)
    and len(node.input_tensors[0].shape) == 4
  )


def _is_convolution(operation) -> bool:
  return (
    type(operation) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    and operation.data_format == 'channels_last'
    and operation.activation in (None, keras.activations.linear)
    and getattr(operation, 'quantization_mode', None) is None
  )
