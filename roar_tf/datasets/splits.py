"""Which images of a dataset are train images, and which are test images."""

import itertools
from collections.abc import Mapping

from roar_tf import errors
from roar_tf.datasets.source import SPLITS, Source
from roar_tf.lazy import tfds


class Splits:
  """The splits of a source as parts of the splits of its dataset.

  Raises:
    UsageError: there are no such splits, they hold other numbers of images than
      the source says, or have images in common.
  """

  def __init__(
    self,
    source: Source,
    sizes: Mapping[str, int],
    infos: Mapping | None,
    ignored: str,
  ):
    """Divides a dataset.

    Args:
      source: it names the splits, or slices of them.
      sizes: how many images every split has.
      infos: what TFDS knows of the splits, such as their shards; None of a
        folder.
      ignored: what else lies there and is not read, a phrase or empty.
    """
    self._source, self._sizes, self._infos = source, sizes, infos
    self.ignored = ignored
    self._where = f'{source.origin} of --dataset={source.name}'
    self._parts = {split: self._parts_of(split) for split in SPLITS}
    self._check_apart()

  def range(
    self, split: str, start: int, stop: int
  ) -> list[tuple[str, int, int]]:
    """Returns the parts of splits that examples start..stop-1 lie in."""
    found, before = [], 0
    for name, first, last in self._parts[split]:
      low, high = (
        min(max(first + edge - before, first), last) for edge in (start, stop)
      )
      if low < high:
        found.append((name, low, high))
      before += last - first
    return found

  def _parts_of(self, split: str) -> list[tuple[str, int, int]]:
    """Returns (name of a split, start, stop) of what is read for a split.

    It is a whole split in general, and more or less where gin slices it.

    Raises:
      UsageError: there is no such split, or not as many images in it.
    """
    source, name = self._source, self._source.split_name(split)
    where = self._where
    if name in self._sizes:
      parts = [(name, 0, self._sizes[name])]
    else:
      try:
        parts = self._sliced(name)
      except (ValueError, AssertionError) as e:
        reason = str(e).splitlines()[0].rstrip('.')
        raise errors.UsageError(
          f'{where} has no split "{name}" (Source.{split}_split); it has '
          f'{", ".join(self._sizes) or "none"}, or slices of them such as '
          f'"{next(iter(self._sizes), "train")}[:80%]" ({reason}).'
        ) from e
    found = sum(stop - start for _, start, stop in parts)
    pinned = getattr(source, f'{split}_images')
    if found != pinned or any(stop < start for _, start, stop in parts):
      raise errors.UsageError(
        f'{where}: split "{name}" has {found} images, gin parameter '
        f'Source.{split}_images says {pinned}'
        f'{self.ignored and f"; not read: {self.ignored}"}.'
      )
    return [part for part in parts if part[1] < part[2]]

  def _sliced(self, name: str) -> list[tuple[str, int, int]]:
    """Returns the parts of splits that TFDS understands by a name."""
    infos = self._infos or {
      split: tfds.core.SplitInfo(name=split, shard_lengths=[size], num_bytes=0)
      for split, size in self._sizes.items()
    }
    slices = tfds.core.ReadInstruction.from_spec(name).to_absolute(infos)
    return [
      (
        each.splitname,
        each.from_ or 0,
        self._sizes[each.splitname] if each.to is None else each.to,
      )
      for each in slices
    ]

  def _check_apart(self) -> None:
    """Refuses splits that have images in common, or one twice."""
    source = self._source
    used = sorted(
      part for s in SPLITS for part in self.range(s, 0, source.count(s))
    )
    for (name, _, stop), (other, start, end) in itertools.pairwise(used):
      if name == other and start < stop:
        raise errors.UsageError(
          f'{self._where}: images {start}..{min(stop, end) - 1} of split '
          f'"{name}" are taken twice by gin parameters Source.train_split='
          f'"{source.train_split}" and Source.test_split='
          f'"{source.test_split}"; an image trains or tests, once.'
        )
