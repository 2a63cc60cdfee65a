"""Metrics of a training: a table of JSON lines, and TensorBoard curves."""

import json
import tempfile
import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from pfit_ray import storage
from pfit_ray.rundir.pace import METRICS_FILE, read_metrics
from pfit_ray.train.loop import Record

_NO_CURVE = {"epoch", "step", "max_step", "images", "seconds", "skipped"}
_PUBLISH_SECONDS = 20.0


class Curves:
    """Writes `metrics.jsonl` and the folder `tensorboard`.

    In a local folder the curves grow with the training; on object storage they appear with each checkpoint. The table
    appears with each checkpoint, and often enough between them to follow the progress.

    Args:
        url: folder or URL prefix.
        first_step: steps already done; later records of an interrupted training are dropped.
    """

    def __init__(self, url: str, first_step: int) -> None:
        self.metrics_url = storage.join(url, METRICS_FILE)
        self.events_url = storage.join(url, "tensorboard")
        self.records = [one for one in read_metrics(url) if one["step"] <= first_step]
        self._temporary = None if storage.is_local(url) else tempfile.TemporaryDirectory()
        folder = self._temporary.name if self._temporary else self.events_url
        self._writer = SummaryWriter(folder, purge_step=first_step + 1)
        self._published = time.monotonic()

    def add(self, record: Record) -> None:
        """Add one record."""
        self.records.append(record)
        for name, value in record.items():
            if name not in _NO_CURVE:
                self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()
        if time.monotonic() - self._published >= _PUBLISH_SECONDS:
            self._publish_table()

    def publish(self) -> None:
        """Write the table, and the curves if they are not in place yet."""
        self._publish_table()
        if self._temporary:
            for file in sorted(Path(self._temporary.name).iterdir()):
                storage.write_bytes(storage.join(self.events_url, file.name), file.read_bytes())

    def close(self) -> None:
        """Finish."""
        self._writer.close()
        if self._temporary:
            self._temporary.cleanup()

    def _publish_table(self) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        storage.write_bytes(self.metrics_url, lines.encode())
        self._published = time.monotonic()
