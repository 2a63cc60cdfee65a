"""What a run's markers say of its passes, read once and kept up to date while shards are published."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from pfit_ray import storage
from pfit_ray.constants import SKIPPED
from pfit_ray.rundir.directory import RunDirectory

_SHARD_FILE = re.compile(r"\d{5,}(-[0-9a-f]{12})?\.(parquet|tar)")


class ShardCount(NamedTuple):
    """Images of one finished shard; `skipped` ones, which the config leaves out, are among the failed."""

    ok: int
    failed: int
    skipped: int


class Ledger:
    """Counts of the finished shards of each pass.

    A corpus of a hundred million images has as many markers as shards: they are read when a pass is first asked for,
    and again only on demand.

    Args:
        run: the run directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._passes: dict[str, dict[int, ShardCount]] = {}
        self._totals: dict[str, Counter[str]] = {}
        self._reasons: dict[str, Counter[str]] = {}
        self._processors: dict[str, Counter[str]] = {}

    def shards(self, name: str) -> dict[int, ShardCount]:
        """The finished shards of a pass by number."""
        if name not in self._passes:
            self.read_again(name)
        return self._passes[name]

    def add(self, name: str, published: Mapping[str, Any]) -> None:
        """Note that a shard has been published; see `pfit_ray.tasks.write.summary`."""
        shards, shard = self.shards(name), published["shard"]
        count = ShardCount(published["ok"], published["failed"], published["skipped"])
        self._totals[name].subtract(shards.get(shard, ShardCount(0, 0, 0))._asdict())
        self._totals[name].update(count._asdict())
        shards[shard] = count

    def read_again(self, name: str) -> dict[int, dict[str, Any]]:
        """Take what storage says now, and return the markers by shard."""
        markers = self._run.finished_shards(name)
        self._passes[name] = {shard: _count(marker) for shard, marker in markers.items()}
        self._totals[name] = Counter()
        self._reasons[name] = Counter()
        self._processors[name] = Counter(marker["processor"] for marker in markers.values() if "processor" in marker)
        for marker in markers.values():
            self._reasons[name].update(marker["reasons"])
        for count in self._passes[name].values():
            self._totals[name].update(count._asdict())
        return markers

    def tidy(self, name: str) -> list[int]:
        """Remove what no marker of a pass names, and read its markers again.

        Such files are left by tries whose worker died before the marker, and by a crash right after it: a plain reader
        of the folder would see their images twice.

        Returns:
            Shards whose markers name a file that is not there.
        """
        markers = self.read_again(name)
        files = {shard: self._run.files(name, shard, marker) for shard, marker in markers.items()}
        named = {shard: {file.url for file in those if file} for shard, those in files.items()}
        urls = set().union(*named.values())
        there = set()
        for kind in ("rows", "labels", "failures"):
            folder = self._run.folder(name, kind)
            for url, _ in storage.list_files(folder) if storage.exists(folder) else ():
                there.add(url)
                if url not in urls and _SHARD_FILE.fullmatch(url.rpartition("/")[2]):
                    storage.remove(url)
        return [shard for shard, those in named.items() if not those <= there]

    def clear(self) -> None:
        """Read every pass again when it is next asked for."""
        for known in (self._passes, self._totals, self._reasons, self._processors):
            known.clear()

    def counts(self, name: str) -> tuple[int, int]:
        """Images of a pass that are ok, and that have failed."""
        self.shards(name)
        return self._totals[name]["ok"], self._totals[name]["failed"]

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
        self.shards(name)
        return self._totals[name]["failed"] - self._totals[name]["skipped"]


def _count(marker: Mapping[str, Any]) -> ShardCount:
    return ShardCount(marker["ok"], marker["failed"], marker["reasons"].get(SKIPPED, 0))
