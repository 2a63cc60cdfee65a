"""Metrics of a training: a table of JSON lines, and TensorBoard curves."""

import json
import tempfile
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from pfit_ray import storage
from pfit_ray.train.loop import Record

_NO_CURVE = {"epoch", "step", "images", "seconds", "skipped"}


class Curves:
    """Writes `metrics.jsonl` and the folder `tensorboard`.

    In a local folder the curves grow with the training. On object storage both appear with each checkpoint.

    Args:
        url: folder or URL prefix.
        first_step: steps already done; later records of an interrupted training are dropped.
    """

    def __init__(self, url: str, first_step: int) -> None:
        self.metrics_url = storage.join(url, "metrics.jsonl")
        self.events_url = storage.join(url, "tensorboard")
        self.records = [one for one in read_metrics(url) if one["step"] <= first_step]
        self._temporary = None if storage.is_local(url) else tempfile.TemporaryDirectory()
        folder = self._temporary.name if self._temporary else self.events_url
        self._writer = SummaryWriter(folder, purge_step=first_step + 1)

    def add(self, record: Record) -> None:
        """Add one record."""
        self.records.append(record)
        for name, value in record.items():
            if name not in _NO_CURVE:
                self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def publish(self) -> None:
        """Write the table, and the curves if they are not in place yet."""
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        storage.write_bytes(self.metrics_url, lines.encode())
        if self._temporary:
            for file in sorted(Path(self._temporary.name).iterdir()):
                storage.write_bytes(storage.join(self.events_url, file.name), file.read_bytes())

    def close(self) -> None:
        """Finish."""
        self._writer.close()
        if self._temporary:
            self._temporary.cleanup()


def read_metrics(url: str) -> list[Record]:
    """The records of a training, oldest first; empty where there are none."""
    metrics_url = storage.join(url, "metrics.jsonl")
    if not storage.exists(metrics_url):
        return []
    return [json.loads(line) for line in storage.read_bytes(metrics_url).splitlines()]
