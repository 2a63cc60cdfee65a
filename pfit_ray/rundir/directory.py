"""Where everything lies in a run directory."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.stored import load_stored
from pfit_ray.errors import UserError
from pfit_ray.rundir.markers import Markers, file_name, read_marker
from pfit_ray.storage.drivers import reach

Network = Literal["classifier", "affinitynet", "deeplab"]
NETWORKS: tuple[Network, ...] = ("classifier", "affinitynet", "deeplab")

LABEL_COLUMN = {"seeds": "affinity_label", "labels": "pseudo_label", "predict": "prediction"}
"""The label map that each pass puts into PNG shards."""

IMAGE_SET = {"seeds": "train", "labels": "train", "predict": "predict"}
"""The manifest that each pass works on."""

PROGRESS_FILE = "progress.json"
"""What a run does at the moment, see `pfit_ray.runner.progress.State`; there is none if nothing runs."""

LOCK_FILE = "lock.json"
"""Who works in the run directory, see `pfit_ray.runner.lock`; there is none if nobody does."""


class ShardFile(NamedTuple):
    """A file of a finished shard; the bytes are None if an older version has not recorded them."""

    url: str
    size: int | None


class ShardFiles(NamedTuple):
    """What belongs together in a finished shard of a pass."""

    rows: ShardFile
    """Parquet: the good rows."""
    labels: ShardFile
    """PNG shard: a tar file with their label maps."""
    failures: ShardFile | None
    """Parquet: the failed rows, where there are any."""


@dataclass(frozen=True)
class RunDirectory:
    """URLs of a run's files; `root` is a folder or any URL that fsspec opens."""

    root: str

    def url(self, *parts: str) -> str:
        """URL of something below the root."""
        return storage.join(self.root, *parts)

    def folder(self, name: str, kind: str) -> str:
        """Folder of the `rows`, `labels` or `failures` of a pass."""
        return self.url(name, f"{LABEL_COLUMN[name]}s" if kind == "labels" else kind)

    def marker(self, name: str, shard: int) -> str:
        """JSON file that says that a shard is finished, written last; see `pfit_ray.rundir.markers`."""
        return self.url(name, "done", file_name(shard))

    def weights(self, network: Network) -> str:
        """Final weights of a network."""
        return self.url("checkpoints", f"{network}.safetensors")

    def read_json(self, *parts: str) -> Any:
        """A JSON file below the root, or None if there is none; it may come and go meanwhile."""
        try:
            return json.loads(storage.read_bytes(self.url(*parts)))
        except FileNotFoundError:
            return None

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file below the root, atomically."""
        storage.write_bytes(self.url(*parts), (json.dumps(value, indent=1) + "\n").encode())

    def published(self, name: str, shard: int, settled: str = "") -> ShardFiles | None:
        """What a shard's marker names; None if the shard is not finished. `settled`: see `read_marker`."""
        marker = read_marker(self.url(name, "done"), shard, settled)
        return None if marker is None else self.files(name, shard, marker)

    def markers(self, name: str) -> Markers:
        """The markers of a pass, listed now."""
        return Markers(self.url(name, "done"))

    def files(self, name: str, shard: int, marker: Mapping[str, Any]) -> ShardFiles:
        """What a shard's marker names; markers of older versions name nothing, and their files have fixed names."""
        stem = f"{shard:05d}"
        named = marker.get("files")
        if named is None:
            named = {"rows": [f"{stem}.parquet", None], "labels": [f"{stem}.tar", None]}
            named |= {"failures": [f"{stem}.parquet", None]} if marker.get("failed") else {}

        def file(kind: str) -> ShardFile:
            return ShardFile(storage.join(self.folder(name, kind), os.path.basename(named[kind][0])), named[kind][1])

        return ShardFiles(file("rows"), file("labels"), file("failures") if "failures" in named else None)

    def finished_numbers(self, name: str) -> list[int]:
        """Numbers of the finished shards of a pass, ascending."""
        found: list[int] = self.markers(name).numbers().tolist()
        return found

    def finished_shards(self, name: str) -> dict[int, dict[str, Any]]:
        """Markers of the finished shards of a pass by shard number, ascending, all in memory; `markers` streams."""
        return dict(self.markers(name))


def open_run(url: str) -> tuple[RunDirectory, RunConfig]:
    """A run directory and the config that it was made with; storage is reached as that config says.

    Raises:
        UserError: when it is no run directory.
    """
    directory = RunDirectory(storage.absolute(url))
    config = directory.url("config.yaml")
    if not storage.exists(config):
        raise UserError(f"{url} is not a run directory: it has no config.yaml; give the output of a run")
    loaded = load_stored(config, storage.read_bytes)
    reach(loaded.storage)
    return directory, loaded
