"""A shard is published as a whole: killed between any two writes and resumed, a run is what it would have been."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.faults import expected_labels, paint_plan, write_pictures
from support.shards import current, fixed
from support.small_runs import label_files

from pfit_ray import storage
from pfit_ray.api.labels import Labels
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.results.export.run import ExportOptions, export_run
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.finished import Ledger
from pfit_ray.rundir.published import read_failures, read_label, read_rows
from pfit_ray.tasks.alone import RowWorker
from pfit_ray.tasks.packing import unpack_rows
from pfit_ray.tasks.passes import PassPlan

IMAGES = tuple("abcdefghij")
SHARDS = range(5)


class KilledError(BaseException):
    """In the place of a SIGKILL: nothing in the package catches it."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, boundary: int) -> Iterator[list[str]]:
    """Every change of the storage before the n-th one is made, and none from it on; yields those that were made."""
    made: list[str] = []
    with monkeypatch.context() as patch:
        for action in ("write_bytes", "remove"):
            real = getattr(storage, action)

            def act(url: str, *rest: Any, real: Any = real, action: str = action) -> None:
                if len(made) >= boundary:
                    raise KilledError
                real(url, *rest)
                made.append(f"{action} {url}")

            patch.setattr(storage, action, act)
        yield made


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Ten pictures in five shards."""
    return write_pictures(tmp_path, IMAGES, shard_size=2)


def hide(run: RunDirectory, *image_ids: str) -> None:
    for image_id in image_ids:
        path = Path(run.root).parent / f"{image_id}.png"
        path.rename(path.with_suffix(".gone"))


def bring_back(run: RunDirectory, *image_ids: str) -> None:
    for image_id in image_ids:
        path = Path(run.root).parent / f"{image_id}.gone"
        path.rename(path.with_suffix(".png"))


def publish(run: RunDirectory, plan: PassPlan, shard: int) -> None:
    """What the workers of a pass do with one shard."""
    fetch, network, finish = plan.operators(settings(run), run)
    finish(network(fetch({"shard": shard})))


def publish_alone(run: RunDirectory, plan: PassPlan, shard: int) -> None:
    """What is done with a shard whose images are tried one by one."""
    fetch, _, finish = plan.operators(settings(run), run)
    stages = [*plan.network, *plan.finish]
    worker = RowWorker(fetch, stages, [1] * len(stages), 100.0)
    rows = []
    for index in range(len(fetch.rows(shard))):
        going = worker.begin(shard, index)
        for number in range(len(stages)):
            going = going and worker.run_stage(number)
        rows += unpack_rows(worker.take())[0]
    finish.writer.write(shard, rows, {})


def settings(run: RunDirectory) -> Any:
    return validate({"output": run.root, "data": {"source": "samples"}})


def outcome(run: RunDirectory) -> tuple[Any, ...]:
    """Everything but times: rows, failures and label maps as plain readers see them, and names and bytes of files."""
    root = Path(run.root)
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in (root / "predict").rglob("*")
        if path.is_file() and path.parent.name != "done"
    }
    markers = {shard: {**marker, **dict.fromkeys(("finished", "stages", "work"))}
               for shard, marker in run.finished_shards("predict").items()}  # fmt: skip
    rows = pd.read_parquet(root / "predict" / "rows")["image_id"].tolist()
    return sorted(rows), label_files(root, "prediction"), files, markers


def check_readers(run: RunDirectory) -> None:
    """Whatever is published belongs together: each image of a finished shard has its own label map, or a failure."""
    expected = expected_labels(run, tuple(path.stem for path in Path(run.root).parent.glob("?.png")))
    for shard in run.finished_numbers("predict"):
        rows, failures = read_rows(run, "predict", shard), read_failures(run, "predict", shard)
        assert sorted([one["image_id"] for one in [*rows, *failures]]) == list(IMAGES[2 * shard : 2 * shard + 2])
        for row in rows:
            if row["image_id"] in expected:
                assert read_label(row) == expected[row["image_id"]]


@pytest.mark.parametrize("way", [publish, publish_alone], ids=["pass", "alone"])
@pytest.mark.parametrize("retry", [False, True], ids=["first", "retry"])
def test_killed_at_every_boundary_and_resumed(
    run: RunDirectory, retry: bool, way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [0, 1, 2] if retry else SHARDS  # in a retry: one image comes back, one fails again, one comes back

    def prepare() -> None:
        shutil.rmtree(run.url("predict"), ignore_errors=True)
        if retry:
            hide(run, "b", "e")
            for shard in SHARDS:
                publish(run, paint_plan(), shard)
            bring_back(run, "b", "e")

    def go(plan: PassPlan) -> None:
        for shard in shards:
            way(run, plan, shard)
        assert Ledger(run).tidy("predict") == []

    hide(run, "c")
    prepare()
    with killed_at(monkeypatch, 10**6) as made:
        go(paint_plan(retry=retry))
    boundaries, result = len(made), outcome(run)
    assert boundaries >= 3 * len(shards)
    assert result[0] == [name for name in IMAGES if name != "c"]
    (failed,) = read_failures(run, "predict", 1)
    assert (failed["image_id"], failed["attempt"]) == ("c", 2 if retry else 1)
    for boundary in range(boundaries):
        prepare()
        plan = paint_plan(retry=retry)
        with pytest.raises(KilledError), killed_at(monkeypatch, boundary):
            go(plan)
        check_readers(run)
        go(plan)  # Ray tries the shard again
        assert outcome(run) == result, made[boundary]


def test_a_next_run_removes_what_a_crash_has_left(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(run, "b")
    publish(run, paint_plan(), 0)
    bring_back(run, "b")
    with pytest.raises(KilledError), killed_at(monkeypatch, 3):  # the new marker is there, the old files are too
        publish(run, paint_plan(retry=True), 0)
    folder = Path(run.url("predict", "rows"))
    assert pd.read_parquet(folder)["image_id"].tolist().count("a") == 2
    notes = folder / "notes.parquet"
    notes.touch()
    assert Ledger(run).tidy("predict") == []
    assert len(list(folder.iterdir())) == 2
    notes.unlink()
    assert pd.read_parquet(folder)["image_id"].tolist() == ["a", "b"]


def test_whoever_holds_places_reads_the_right_label_map_after_a_retry(run: RunDirectory) -> None:
    hide(run, "a")
    publish(run, paint_plan(), 0)
    (held,) = read_rows(run, "predict", 0)
    dataset = Labels(run, settings(run)).torch(lambda image, label: label)
    bring_back(run, "a")
    publish(run, paint_plan(retry=True), 0)
    assert not Path(held["label_url"]).exists()
    assert read_label(held) == expected_labels(run, ("b",))["b"]
    with Image.open(io.BytesIO(expected_labels(run, ("b",))["b"])) as expected:
        np.testing.assert_array_equal(dataset[0], np.array(expected))


@pytest.fixture
def _overtaken(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Image a has failed in shard 0; when a reader has looked up the shard's files, a retry replaces them."""
    hide(run, "a")
    publish(run, paint_plan(), 0)
    bring_back(run, "a")
    published = RunDirectory.published

    def overtaken(self: RunDirectory, name: str, shard: int, settled: str = "") -> Any:
        files = published(self, name, shard, settled)
        monkeypatch.setattr(RunDirectory, "published", published)
        publish(run, paint_plan(retry=True), 0)
        return files

    monkeypatch.setattr(RunDirectory, "published", overtaken)


@pytest.mark.usefixtures("_overtaken")
def test_a_reader_that_a_retry_overtakes_reads_what_is_there_now(run: RunDirectory) -> None:
    assert [row["image_id"] for row in read_rows(run, "predict", 0)] == ["a", "b"]


@pytest.mark.usefixtures("_overtaken")
def test_an_export_that_a_retry_overtakes_counts_each_image_once(run: RunDirectory, tmp_path: Path) -> None:
    options = ExportOptions("png", "prediction", images="none")
    done = export_run(settings(run), run, str(tmp_path / "export"), options)
    assert (done.exported, dict(done.failed), done.unfinished) == (2, {}, len(IMAGES) - 2)


@pytest.mark.parametrize("kind", ["rows", "labels"])
def test_a_marker_without_its_files_is_said_in_one_sentence(run: RunDirectory, kind: str) -> None:
    publish(run, paint_plan(), 0)
    publish(run, paint_plan(), 1)
    Path(current(run, "predict", kind, 1)).unlink()
    assert Ledger(run).tidy("predict") == [1]
    if kind == "rows":
        with pytest.raises(UserError, match="pass predict: shard 1 is finished, and a file of it is missing"):
            read_rows(run, "predict", 1)
        with pytest.raises(UserError, match=r"remove .*00001.json"):
            Labels(run, settings(run)).pandas()
        with pytest.raises(UserError, match="shard 1 is finished"):
            paint_plan(retry=True).operators(settings(run), run)[0].rows(1)
    else:  # rows whose label maps are gone are done again
        publish(run, paint_plan(retry=True), 1)
        assert [read_label(row) for row in read_rows(run, "predict", 1)] == list(
            expected_labels(run, ("c", "d")).values()
        )


def test_a_damaged_table_is_said_in_one_sentence(run: RunDirectory) -> None:
    publish(run, paint_plan(), 0)
    Path(current(run, "predict", "rows", 0)).write_bytes(b"nonsense")
    with pytest.raises(UserError, match="a file of it is damaged"):
        read_rows(run, "predict", 0)


def test_a_shard_that_an_older_version_has_published(run: RunDirectory) -> None:
    hide(run, "a")
    publish(run, paint_plan(), 0)
    marker = run.read_json("predict", "done", "00000.json")
    for kind in ("rows", "labels", "failures"):
        Path(current(run, "predict", kind, 0)).rename(fixed(run, "predict", kind, 0))
    run.write_json({**marker, "files": None}, "predict", "done", "00000.json")
    (held,) = read_rows(run, "predict", 0)
    assert read_label(held) == expected_labels(run, ("b",))["b"]
    assert [row["image_id"] for row in read_failures(run, "predict", 0)] == ["a"]
    assert Ledger(run).tidy("predict") == []
    bring_back(run, "a")
    publish(run, paint_plan(retry=True), 0)
    assert not list(Path(run.url("predict")).rglob("00000.parquet"))
    assert [row["image_id"] for row in read_rows(run, "predict", 0)] == ["a", "b"]
    assert read_label(held) == expected_labels(run, ("b",))["b"]
