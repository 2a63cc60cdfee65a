"""What a run's markers say of its passes, read once and kept up to date while shards are published."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pfit_ray import storage
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.markers import FILE_KINDS, SHARDS_PER_PART, Markers

_SHARD_FILE = re.compile(r"(\d{5,})(?:-([0-9a-f]{12}))?\.(?:parquet|tar)")
_FIXED = b"-"
"""Stands for the digest of a file whose name has none, as older versions named them."""


class ShardCount(NamedTuple):
    """Images of one finished shard; `skipped` ones, which the config leaves out, are among the failed."""

    ok: int
    failed: int
    skipped: int


class ShardCounts(Mapping[int, ShardCount]):
    """Counts of finished shards by number, ascending; 12 bytes for each."""

    def __init__(self) -> None:
        self._counts = np.full((SHARDS_PER_PART, 3), -1, np.int32)
        self._size = 0
        self.total = ShardCount(0, 0, 0)

    def set(self, shard: int, count: ShardCount) -> None:
        """Add a shard, or replace what it was."""
        if shard >= len(self._counts):
            more = np.full((max(len(self._counts), shard + 1 - len(self._counts)), 3), -1, np.int32)
            self._counts = np.concatenate([self._counts, more])
        before = self.get(shard, ShardCount(0, 0, 0))
        self._size += shard not in self
        self._counts[shard] = count
        self.total = ShardCount(*(old + new - was for old, new, was in zip(self.total, count, before, strict=True)))

    def __contains__(self, shard: object) -> bool:
        return isinstance(shard, int) and 0 <= shard < len(self._counts) and self._counts[shard, 0] >= 0

    def __getitem__(self, shard: int) -> ShardCount:
        if shard not in self:
            raise KeyError(shard)
        return ShardCount(*self._counts[shard].tolist())

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers().tolist())

    def numbers(self) -> NDArray[np.int64]:
        """The finished shards, ascending."""
        return np.flatnonzero(self._counts[:, 0] >= 0)

    def whole(self, part: int) -> bool:
        """Whether all shards whose markers belong into a part are finished."""
        some = self._counts[part * SHARDS_PER_PART : (part + 1) * SHARDS_PER_PART, 0]
        return len(some) == SHARDS_PER_PART and bool((some >= 0).all())

    def failing(self) -> NDArray[np.int64]:
        """The finished shards that have failed images, ascending."""
        return np.flatnonzero(self._counts[:, 1] > 0)


class Ledger:
    """Counts of the finished shards of each pass.

    The markers of a pass are read when it is first asked for, and again only on demand. The driver of a run, which is
    told each marker as it is published, also moves them into parts; see `pfit_ray.rundir.markers`.

    Args:
        run: the run directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._passes: dict[str, ShardCounts] = {}
        self._reasons: dict[str, Counter[str]] = {}
        self._processors: dict[str, Counter[str]] = {}
        self._markers: dict[str, Markers] = {}
        self._fresh: dict[str, dict[int, dict[int, bytes]]] = {}
        self._tidy: set[str] = set()

    def shards(self, name: str) -> ShardCounts:
        """The finished shards of a pass by number."""
        if name not in self._passes:
            self.read_again(name)
        return self._passes[name]

    def add(self, name: str, published: Mapping[str, Any]) -> None:
        """Note that a shard has been published; see `pfit_ray.tasks.write.summary`."""
        shard = published["shard"]
        self.shards(name).set(shard, ShardCount(published["ok"], published["failed"], published["skipped"]))
        self._tidy.discard(name)
        part, markers = shard // SHARDS_PER_PART, self._markers[name]
        if "marker" in published and part not in markers.parts:  # what is tried again waits for the end of the pass
            fresh = self._fresh.setdefault(name, {}).setdefault(part, {})
            fresh[shard] = published["marker"].encode()
            if self._passes[name].whole(part):
                markers.compact(part, self._fresh[name].pop(part))

    def read_again(self, name: str) -> None:
        """Take what storage says now."""
        self._read(name, self._run.markers(name))

    def _read(self, name: str, markers: Markers, digests: dict[str, list[bytes]] | None = None) -> None:
        counts, reasons, processors = ShardCounts(), Counter[str](), Counter[str]()
        names = FILE_KINDS if digests is not None else ()
        for table in markers.tables(["shard", "ok", "failed", "skipped", "reasons", "processor", *names]):
            told = [table[column].fill_null(0).to_pylist() for column in ("shard", "ok", "failed", "skipped")]
            for shard, *numbers in zip(*told, strict=True):
                counts.set(shard, ShardCount(*numbers))
            for text, times in Counter(table["reasons"].to_pylist()).items():
                reasons.update({reason: count * times for reason, count in json.loads(text).items()})
            processors.update(kind for kind in table["processor"].to_pylist() if kind is not None)
            if digests is not None:
                files = [table[kind].to_pylist() for kind in FILE_KINDS]
                for failed, *these in zip(told[2], *files, strict=True):
                    for kind, digest in zip(FILE_KINDS, _digests(these, failed), strict=True):
                        digests[kind].append(digest)
        self._passes[name], self._reasons[name], self._processors[name] = counts, reasons, processors
        self._markers[name] = markers

    def _compacted(self, name: str) -> Markers:
        """The markers of a pass, those of whole parts in them."""
        self._fresh.pop(name, None)
        markers = self._run.markers(name)
        for part in sorted(markers.own):
            if markers.is_whole(part):
                markers.compact(part)
        return markers

    def compact(self, name: str) -> None:
        """Move the markers of whole parts into them, and read the pass again; only the driver of a run may."""
        self._read(name, self._compacted(name))

    def tidy(self, name: str) -> list[int]:
        """Compact the markers of a pass, and remove what none of them names, unless that has just been done.

        Such files are left by tries whose worker died before the marker, and by a crash right after it: a plain reader
        of the folder would see their images twice.

        Returns:
            Shards whose markers name a file that is not there.
        """
        if name in self._tidy:
            return []
        digests: dict[str, list[bytes]] = {kind: [] for kind in FILE_KINDS}
        self._read(name, self._compacted(name), digests)
        numbers = self._passes[name].numbers()
        lost: set[int] = set()
        for kind in FILE_KINDS:
            named = np.zeros(int(numbers.max(initial=-1)) + 1, "S12")
            named[numbers] = digests.pop(kind)
            missing = named != b""
            for url, _ in storage.list_files(self._run.folder(name, kind)):
                found = _SHARD_FILE.fullmatch(url.rpartition("/")[2])
                if found is None:
                    continue
                shard = int(found[1])
                if shard < len(named) and named[shard] == _digest(found):
                    missing[shard] = False
                else:
                    storage.remove(url)
            lost.update(np.flatnonzero(missing).tolist())
        if not lost:
            self._tidy.add(name)
        return sorted(lost)

    def drop(self, name: str, shards: list[int]) -> None:
        """Forget the markers of some shards, so that they are done again."""
        self._markers[name].drop(shards)
        self.clear()

    def clear(self) -> None:
        """Read every pass again when it is next asked for."""
        for known in (self._passes, self._reasons, self._processors, self._markers, self._fresh, self._tidy):
            known.clear()

    def counts(self, name: str) -> tuple[int, int]:
        """Images of a pass that are ok, and that have failed."""
        return self.shards(name).total[:2]

    def reasons(self, name: str) -> dict[str, int]:
        """Failed images of a pass by reason, the most frequent first, as storage said when it was last read."""
        self.shards(name)
        return dict(self._reasons[name].most_common())

    def processors(self, name: str) -> dict[str, int]:
        """Shards of a pass by the kind of processor that made them, where markers tell, as storage said last."""
        self.shards(name)
        return dict(self._processors[name].most_common())

    def faulty(self, name: str) -> int:
        """Failed images of a pass without those that the config skips."""
        total = self.shards(name).total
        return total.failed - total.skipped


def _digests(files: Sequence[str | None], failed: int) -> list[bytes]:
    """The digests in the names of a shard's rows, labels and failures; empty where there is no such file."""
    if files[0] is None:  # a marker of an older version names nothing
        return [_FIXED, _FIXED, _FIXED if failed else b""]
    return [b"" if file is None else _digest(_SHARD_FILE.fullmatch(file)) for file in files]


def _digest(name: re.Match[str] | None) -> bytes:
    return b"" if name is None else (name[2] or "").encode() or _FIXED
