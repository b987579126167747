"""From seconds of a study's programs to the rates of a dry run."""

from collections.abc import Mapping

from roar_tf.study.rates import Rates

STEP = 'training step (retrained)'
EXPLAINED_STEP = 'training step (explained)'
EVALUATION = 'evaluation (retrained)'
GRADIENTS = 'gradient evaluations'
"""Names of the functions that make up the time of a study."""


def rates(
  seconds: Mapping[str, tuple[float, int] | None], chips: int, explains: bool
) -> Rates | None:
  """Returns the seconds that all chips take together.

  Args:
    seconds: by the name of each function that there is, seconds of one call on
      one chip, and the images or gradients that it computes; None if unknown.
    chips: they share the batch of a step; images and gradients are dealt out.
    explains: whether gradients are needed.

  Returns:
    None if the seconds of a function that is needed are not known.
  """
  # The explained model has a step of its own only where it is another model.
  explained = EXPLAINED_STEP if EXPLAINED_STEP in seconds else STEP
  needed = [STEP, explained, EVALUATION, *([GRADIENTS] if explains else [])]
  if not all(seconds.get(name) for name in needed):
    return None
  per_item = {n: seconds[n][0] / seconds[n][1] / chips for n in needed}
  return Rates(
    step=seconds[STEP][0],
    explained_step=seconds[explained][0],
    test_image=per_item[EVALUATION],
    gradient=per_item[GRADIENTS] if explains else 0.0,
  )
