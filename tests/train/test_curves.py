import json
from pathlib import Path

import fsspec
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pfit_ray.train.curves import Curves, read_metrics

RECORDS = [
    {"epoch": 1, "step": 2, "loss": 0.5, "learning_rate": 0.1, "images": 8, "seconds": 1.0},
    {"epoch": 1, "step": 3, "loss": 0.25, "learning_rate": 0.05, "images": 4, "seconds": 0.5, "skipped": {"a": "x"}},
]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def write(url: str, first_step: int, records: list[dict]) -> None:
    curves = Curves(url, first_step)
    for record in records:
        curves.add(record)
    curves.publish()
    curves.close()


def test_table_and_curves(tmp_path: Path) -> None:
    write(str(tmp_path), 0, RECORDS)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == RECORDS
    assert read_metrics(str(tmp_path)) == RECORDS
    assert scalars(tmp_path / "tensorboard") == {
        "loss": [(2, 0.5), (3, 0.25)],
        "learning_rate": [(2, pytest.approx(0.1)), (3, pytest.approx(0.05))],
    }


def test_continued_training_drops_what_it_does_again(tmp_path: Path) -> None:
    write(str(tmp_path), 0, RECORDS)
    again = {**RECORDS[1], "loss": 0.75}
    write(str(tmp_path), 2, [again])
    assert read_metrics(str(tmp_path)) == [RECORDS[0], again]
    assert scalars(tmp_path / "tensorboard")["loss"] == [(2, 0.5), (3, 0.75)]


def test_object_storage_gets_both_when_published(tmp_path: Path) -> None:
    write("memory://curves-test/classifier", 0, RECORDS)
    memory = fsspec.filesystem("memory")
    (event_file,) = memory.ls("/curves-test/classifier/tensorboard", detail=False)
    (tmp_path / event_file.rpartition("/")[2]).write_bytes(memory.cat_file(event_file))
    assert scalars(tmp_path)["loss"] == [(2, 0.5), (3, 0.25)]
    assert read_metrics("memory://curves-test/classifier") == RECORDS


def test_no_metrics_yet(tmp_path: Path) -> None:
    assert read_metrics(str(tmp_path)) == []


def test_the_table_can_be_followed_between_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves = Curves(str(tmp_path), 0)
    curves.add(RECORDS[0])
    assert read_metrics(str(tmp_path)) == []
    monkeypatch.setattr("pfit_ray.train.curves._PUBLISH_SECONDS", 0.0)
    curves.add(RECORDS[1])
    assert read_metrics(str(tmp_path)) == RECORDS
    curves.close()
