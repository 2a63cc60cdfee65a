import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.shards import current

from pfit_ray import storage
from pfit_ray.data.images import encode_label
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks import write
from pfit_ray.tasks.write import ShardWriter, summary

LABELS = {"a": np.array([[0, 1], [2, 0]], np.uint8), "c": np.array([[7]], np.uint8)}


def rows() -> list[dict]:
    def good(image_id: str) -> dict:
        height, width = LABELS[image_id].shape
        return {
            "image_id": image_id,
            "uri": f"photos/{image_id}.jpg",
            "height": height,
            "width": width,
            "keys": [1, 2],
            "margin": 0.5,
            "crf_change": 0.25,
            "foreground_share": 0.125,
            "label": encode_label(LABELS[image_id]),
            "status": "ok",
        }

    bad = {"image_id": "b", "uri": "photos/b.jpg", "keys": None, "status": "failed", "stage": "decode"}
    return [good("a"), {**bad, "reason": "unreadable", "message": "not an image"}, good("c")]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_plain_readers_understand_a_shard(tmp_path: Path) -> None:
    marker = ShardWriter(RunDirectory(str(tmp_path)), "predict").write(3, rows(), {})
    assert (marker["shard"], marker["ok"], marker["failed"], marker["reasons"]) == (3, 2, 1, {"unreadable": 1})
    folders = {"rows": "rows", "labels": "predictions", "failures": "failures"}
    files = {f"predict/{folders[kind]}/{name}" for kind, (name, _) in marker["files"].items()}
    assert set(contents(tmp_path)) == files | {"predict/done/00003.json"}
    assert all(Path(name).name.startswith("00003") for name in files)
    table = pd.read_parquet(tmp_path / "predict/rows").set_index("image_id")
    assert list(table.index) == ["a", "c"]
    assert table.loc["a", "keys"].tolist() == [1, 2]
    assert table.loc["a", ["height", "width", "margin"]].tolist() == [2, 2, 0.5]
    failures = pd.read_parquet(tmp_path / "predict/failures").to_dict("records")
    assert failures == [
        {
            "image_id": "b",
            "uri": "photos/b.jpg",
            "pass": "predict",
            "stage": "decode",
            "reason": "unreadable",
            "message": "not an image",
            "attempt": 1,
        }
    ]
    (tar,) = (tmp_path / "predict/predictions").iterdir()
    with tarfile.open(tar) as archive:
        assert archive.getnames() == ["a.png", "c.png"]
        for image_id, label in LABELS.items():
            with Image.open(archive.extractfile(f"{image_id}.png")) as picture:
                assert picture.mode == "P"
                np.testing.assert_array_equal(np.array(picture), label)
    for image_id, place in table.iterrows():
        shard = (tmp_path / "predict/predictions" / place["label_file"]).read_bytes()
        png = shard[place["label_offset"] : place["label_offset"] + place["label_size"]]
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png))), LABELS[image_id])


def test_writing_again_gives_the_same_names_and_bytes(tmp_path: Path) -> None:
    writer = ShardWriter(RunDirectory(str(tmp_path)), "predict")
    writer.write(0, rows(), {})
    first = contents(tmp_path)
    writer.write(0, rows(), {})
    second = contents(tmp_path)
    marker = "predict/done/00000.json"
    assert first.pop(marker) != second.pop(marker)  # it says when
    assert first == second


def test_what_a_shard_was_goes_when_it_is_published_again(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path))
    ShardWriter(run, "predict").write(0, rows(), {})
    ShardWriter(run, "predict", replaces=True).write(0, [rows()[0]], {})
    assert {name.split("/")[1] for name in contents(tmp_path)} == {"rows", "predictions", "done"}
    assert pd.read_parquet(tmp_path / "predict/rows")["image_id"].tolist() == ["a"]


@pytest.mark.parametrize("pass_name", ["seeds", "labels", "predict"])
def test_a_shard_without_good_rows(tmp_path: Path, pass_name: str) -> None:
    run = RunDirectory(str(tmp_path))
    ShardWriter(run, pass_name).write(0, [rows()[1]], {})
    assert len(pd.read_parquet(current(run, pass_name, "rows", 0))) == 0
    assert pd.read_parquet(current(run, pass_name, "failures", 0))["pass"].tolist() == [pass_name]
    with tarfile.open(current(run, pass_name, "labels", 0)) as archive:
        assert archive.getnames() == []


def test_the_marker_comes_last_and_tells_the_timings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    real = storage.write_bytes
    monkeypatch.setattr(write.storage, "write_bytes", lambda url, data: (written.append(url), real(url, data)))
    run = RunDirectory(str(tmp_path))
    cam = {"images": 3, "seconds": 1.5, "cpu_seconds": 1.0}
    marker = ShardWriter(run, "predict").write(0, rows(), {"cam": cam})
    assert written[-1] == run.marker("predict", 0)
    assert run.finished_shards("predict") == {0: marker}
    assert marker["stages"]["cam"] == cam
    write_timing = marker["stages"]["write"]
    sizes = [len(data) for name, data in contents(tmp_path).items() if not name.endswith(".json")]
    assert (write_timing["images"], write_timing["failed"], write_timing["bytes"]) == (3, 0, sum(sizes))


def test_the_report_hears_of_a_published_shard(tmp_path: Path) -> None:
    heard = []
    writer = ShardWriter(RunDirectory(str(tmp_path)), "predict")
    writer.report = lambda name, timings: heard.append((name, storage.exists(marker), timings))
    marker = writer.run.marker("predict", 5)
    written = writer.write(5, rows(), {"cam": {"images": 3}})
    assert heard == [("predict", True, written["stages"])]


def test_the_driver_is_told_what_was_skipped() -> None:
    marker = {"shard": 3, "ok": 4, "failed": 5, "reasons": {"skipped": 2, "unreadable": 3}}
    marker["stages"] = {"decode": {"images": 9, "seconds": 0.5}}
    told = summary({**marker, "nodes": {}, "files": {}})
    assert json.loads(told.pop("marker")) == {**marker, "nodes": {}, "files": {}}
    assert told == {**marker, "skipped": 2}
    assert summary({**marker, "reasons": {"unreadable": 5}})["skipped"] == 0
