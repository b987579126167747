"""What a model must be to be explained or retrained: images to logits.

A classifier may end in a softmax, log-softmax or sigmoid; its logits are then
what goes into that (paper and released code: pre-softmax). Where the logits are
out of reach, or where what a model returns for an image is not a function of
that image alone, it is refused.
"""

from __future__ import annotations

import re

import numpy as np

from roar_tf.lazy import tf

_ACTIVATIONS = ('Softmax', 'LogSoftmax', 'Sigmoid')
_SQUASHING = {*_ACTIVATIONS, 'Softplus'}
"""Operations behind which there are probabilities, or logarithms of them."""

_RENAMING = ('Identity', 'Cast')
"""What Keras may add behind an activation."""

_PASSING = {
  *_RENAMING,
  *('Reshape', 'Squeeze', 'ExpandDims', 'Transpose', 'StridedSlice', 'Slice'),
  *('ConcatV2', 'Pack', 'Unpack', 'Split', 'SplitV', 'GatherV2', 'Tile'),
  *('Mean', 'Sum', 'Max', 'Min', 'AddV2', 'Add', 'AddN', 'Sub', 'Mul'),
  *('RealDiv', 'Neg', 'Log', 'Maximum', 'Minimum', 'ClipByValue', 'Pow'),
  *('EnsureShape', 'StopGradient', 'PreventGradient', 'IdentityN'),
}
"""Operations that move, join, average or scale what they are given."""

_CALLS = ('PartitionedCall', 'StatefulPartitionedCall')
_ASSIGNING = re.compile(
  r'Assign\w*|Resource(Scatter|Apply|SparseApply|StridedSliceAssign)\w*'
)
_RANDOM = re.compile(
  r'Random\w+|(Parameterized)?TruncatedNormal|Multinomial|Rng\w+|'
  r'Stateful(?!PartitionedCall)\w+|SampleDistorted\w+'
)

_PROBES, _FAR = 4, 1000.0
"""Images that a model is tried on, and how far beyond their range it is, too.
There a sigmoid is 0 or 1, and logits are large."""
_TOLERANCE = 1e-3
_HALF_TOLERANCE = 1e-2
"""Of probabilities, which models in half precision round."""


def logits(outputs) -> tf.Tensor:
  """Returns the logits [R, K] behind what a model returns, in its graph.

  One output is the log-odds z of class 1, whether a sigmoid follows it or not:
  the classes 0 and 1 have the logits -z and z, so that either is explained by
  what speaks for it.
  """
  values = _behind(outputs)
  return tf.concat([-values, values], -1) if values.shape[1] == 1 else values


def checked_outputs(outputs, images) -> tf.Tensor:
  """Returns what a model returns; raises ValueError unless it is [R, K]."""
  shape = getattr(outputs, 'shape', None)
  if shape is None or len(shape) != 2 or shape[0] != images.shape[0]:
    found = type(outputs).__name__ if shape is None else tuple(shape)
    raise ValueError(
      'the model must return logits [batch, classes], it returns '
      f'{found} for {images.shape[0]} images.'
    )
  return outputs


def check(model, images, activation: bool = True) -> int:
  """Returns a model's number of classes, after trying it on a few images.

  Nothing of the model is changed: its operations are looked at before they run.

  Args:
    model: called in evaluation mode.
    images: float [R, H, W, C]; the first one tells the range of others.
    activation: whether the model may end in an activation.

  Raises:
    ValueError: the model does not return logits [R, K] and they are out of
      reach; or it assigns variables, draws random numbers, or mixes the images
      of a batch.
  """
  last = {}

  @tf.function(autograph=False)
  def evaluate(images):
    outputs = checked_outputs(model(images, training=False), images)
    last['outputs'], last['logits'] = outputs, _behind(outputs)
    return last['logits']

  near = _near(images)
  traced = evaluate.get_concrete_function(
    tf.TensorSpec(near.shape, images.dtype)
  )
  _check_operations(traced.graph)
  if not activation and last['logits'] is not last['outputs']:
    raise ValueError(
      f'the model ends in {last["outputs"].op.type}, and must return logits: '
      'the loss has a softmax of its own.'
    )

  def evaluated(batch) -> np.ndarray:
    return tf.cast(traced(tf.cast(batch, images.dtype)), tf.float32).numpy()

  values = evaluated(near)
  mixed = np.concatenate([_FAR * near[1:], near[:1]])
  _check_alone(values, evaluated(near), evaluated(mixed))
  if said := _unlike_logits(last['logits'], values, evaluated(_FAR * near)):
    raise ValueError(
      f'the model returns {said} that cannot be taken off; give a model that '
      'returns logits.'
    )
  return max(2, values.shape[1])


def _behind(outputs) -> tf.Tensor:
  """Returns what goes into a last activation, or the outputs without one."""
  last = outputs
  while last.op.type in _RENAMING:
    last = last.op.inputs[0]
  return last.op.inputs[0] if last.op.type in _ACTIVATIONS else outputs


def _near(images) -> np.ndarray:
  """Returns float32 [_PROBES, H, W, C]: an image, and noise of its range."""
  image = tf.cast(images[:1], tf.float32).numpy()
  noise = np.random.default_rng(0).uniform(
    -1, 1, (_PROBES - 1, *image.shape[1:])
  )
  return np.concatenate([image, noise * max(1.0, np.abs(image).max())])


def _check_operations(graph) -> None:
  """Raises ValueError for what makes more of images than a function of them."""
  definition = graph.as_graph_def()
  nodes = [definition.node, *(f.node_def for f in definition.library.function)]
  for node in (node for each in nodes for node in each):
    for pattern, what in (
      (_ASSIGNING, 'assigns variables'),
      (_RANDOM, 'draws random numbers'),
    ):
      if pattern.fullmatch(node.op):
        raise ValueError(
          f'the model {what} in evaluation mode ({node.name}), as batch norm '
          'and dropout do that are called with training=True; give a model '
          'that does not.'
        )


def _check_alone(
  logits: np.ndarray, again: np.ndarray, beside_others: np.ndarray
) -> None:
  """Raises ValueError unless the logits of an image are its own.

  Args:
    logits: of some images.
    again: of the same images, once more.
    beside_others: of other images, and the first image behind them.
  """
  scale = np.abs(logits[np.isfinite(logits)]).max(initial=0)

  def differ(ours, theirs):
    same = np.isclose(ours, theirs, 0, _HALF_TOLERANCE * scale, True)
    return not same.all()

  if differ(logits, again):
    raise ValueError(
      'the model returns other logits for the same images each time; give a '
      'model without random numbers in evaluation mode.'
    )
  if differ(logits[0], beside_others[-1]):
    raise ValueError(
      'what the model returns for an image depends on the other images of its '
      'batch, as with batch norm that is called with training=True; give a '
      'model that looks at every image alone.'
    )


def _unlike_logits(tensor, near: np.ndarray, far: np.ndarray) -> str:
  """Returns what it is that a model returns, '' if it is logits.

  Args:
    tensor: what it returns, in its graph.
    near: its values for some images.
    far: for images far beyond the range of images.
  """
  rows = np.concatenate([near, far])
  rows = rows[np.isfinite(rows).all(-1)].astype(np.float64)
  if not rows.size:
    return ''
  half = tensor.dtype not in (tf.float32, tf.float64)
  tolerance = _HALF_TOLERANCE if half else _TOLERANCE
  positive = rows.min() >= 0 and rows.max() <= 1
  if rows.shape[1] > 1:  # One output: it may well be 1.
    if positive and np.allclose(rows.sum(-1), 1, 0, tolerance):
      return 'probabilities, from a softmax'
    total = np.exp(np.minimum(rows, 50)).sum(-1)
    if np.allclose(total, 1, 0, tolerance):
      return 'logarithms of probabilities, from a log-softmax'
  sources = _sources(tensor)
  if sources and sources <= _SQUASHING and (positive or rows.max() <= 0):
    return 'probabilities, or logarithms of them, from an activation'
  # A sigmoid written in other words: far away it is 0 or 1.
  inside = ((near > 1e-6) & (near < 1 - 1e-6)).any()
  # Nearly: some value may lie near 0 even there.
  away = np.abs(far - np.round(far)) < tolerance
  if positive and inside and away.mean() > 0.5 and far.max(initial=0) > 0.5:
    return 'probabilities, from a sigmoid'
  return ''


def _sources(tensor) -> set[str]:
  """Returns the types of operations that make the values of a tensor.

  What only moves, joins, averages or scales values is looked through, and so
  are calls of functions; constants and variables do not count.
  """
  types, seen = set(), set()
  # Tensors, each with the calls that it is inside of.
  waiting = [(tensor, ())]
  while waiting:
    tensor, calls = waiting.pop()
    key = (id(tensor.graph), tensor.name, calls)
    if key in seen:
      continue
    seen.add(key)
    operation = tensor.op
    inner = [t.name for t in tensor.graph.inputs]
    if calls and tensor.name in inner:
      call = calls[-1]
      waiting.append((call.inputs[inner.index(tensor.name)], calls[:-1]))
    elif operation.type in _CALLS:
      name = operation.get_attr('f').name
      body = tensor.graph._get_function(name).graph
      output = body.outputs[tensor.value_index]
      waiting.append((output, (*calls, operation)))
    elif operation.type in _PASSING:
      waiting += [(t, calls) for t in operation.inputs if t.dtype.is_floating]
    elif operation.type not in ('Const', 'ReadVariableOp'):
      types.add(operation.type)
  return types
