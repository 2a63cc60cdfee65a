"""Where everything lies in a run directory."""

import json
import os
from dataclasses import dataclass
from typing import Any, Literal

from pfit_ray import storage
from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.storage import OPTIONS_VARIABLE
from pfit_ray.errors import UserError
from pfit_ray.storage.threads import prefetch

Network = Literal["classifier", "affinitynet", "deeplab"]
NETWORKS: tuple[Network, ...] = ("classifier", "affinitynet", "deeplab")

LABEL_COLUMN = {"seeds": "affinity_label", "labels": "pseudo_label", "predict": "prediction"}
"""The label map that each pass puts into PNG shards."""

IMAGE_SET = {"seeds": "train", "labels": "train", "predict": "predict"}
"""The manifest that each pass works on."""

PROGRESS_FILE = "progress.json"
"""What a run does at the moment, see `pfit_ray.runner.progress.State`; there is none where nothing runs."""

_READERS = 32
"""Markers that are read at the same time."""


@dataclass(frozen=True)
class RunDirectory:
    """URLs of a run's files; `root` is a folder or any URL that fsspec opens."""

    root: str

    def url(self, *parts: str) -> str:
        """URL of something below the root."""
        return storage.join(self.root, *parts)

    def rows(self, name: str, shard: int) -> str:
        """Parquet file with the good rows of one shard of a pass."""
        return self.url(name, "rows", f"{shard:05d}.parquet")

    def failures(self, name: str, shard: int) -> str:
        """Parquet file with the failed rows of one shard of a pass."""
        return self.url(name, "failures", f"{shard:05d}.parquet")

    def labels(self, name: str, shard: int) -> str:
        """PNG shard: a tar file with the label maps of one shard of a pass."""
        return self.url(name, f"{LABEL_COLUMN[name]}s", f"{shard:05d}.tar")

    def marker(self, name: str, shard: int) -> str:
        """JSON file that says that a shard is finished, written last."""
        return self.url(name, "done", f"{shard:05d}.json")

    def weights(self, network: Network) -> str:
        """Final weights of a network."""
        return self.url("checkpoints", f"{network}.safetensors")

    def read_json(self, *parts: str) -> Any:
        """A JSON file below the root, or None where there is none."""
        url = self.url(*parts)
        return json.loads(storage.read_bytes(url)) if storage.exists(url) else None

    def write_json(self, value: Any, *parts: str) -> None:
        """Write a JSON file below the root, atomically."""
        storage.write_bytes(self.url(*parts), (json.dumps(value, indent=1) + "\n").encode())

    def finished_numbers(self, name: str) -> list[int]:
        """Numbers of the finished shards of a pass, ascending; their markers are listed, not read."""
        folder = self.url(name, "done")
        if not storage.exists(folder):
            return []
        stems = (url.rpartition("/")[2].rpartition(".") for url, _ in storage.list_files(folder))
        return sorted(int(stem) for stem, _, suffix in stems if suffix == "json" and stem.isdigit())

    def finished_shards(self, name: str) -> dict[int, dict[str, Any]]:
        """Markers of the finished shards of a pass by shard number, ascending."""
        numbers = self.finished_numbers(name)
        read = prefetch(lambda shard: storage.read_bytes(self.marker(name, shard)), numbers, _READERS, 4 * _READERS)
        return {shard: json.loads(data) for shard, data in zip(numbers, read, strict=True)}


def open_run(url: str) -> tuple[RunDirectory, RunConfig]:
    """A run directory and the config that it was made with; storage is reached as that config says.

    Raises:
        UserError: when it is no run directory.
    """
    directory = RunDirectory(storage.absolute(url))
    config = directory.url("config.yaml")
    if not storage.exists(config):
        raise UserError(f"{url} is not a run directory: it has no config.yaml; give the output of a run")
    loaded = load_config(config, read=storage.read_bytes)
    if OPTIONS_VARIABLE not in os.environ:
        storage.configure(loaded.storage)
    return directory, loaded
