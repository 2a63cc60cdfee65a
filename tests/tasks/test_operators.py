import io
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.config.stages import CamConfig
from pfit_ray.constants import FAILED, OK, Row
from pfit_ray.data.images import decode_image, encode_label
from pfit_ray.errors import RowError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.base import Outcome, Stage
from pfit_ray.tasks.cam import CamStage
from pfit_ray.tasks.operators import DecodeStage, FinishOperator, StageOperator
from pfit_ray.tasks.packing import pack_rows, unpack_rows
from pfit_ray.tasks.write import ShardWriter


def encoded_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class Counting(Stage):
    """Adds the image and notes how often it is set up; images called "bad" cannot be read."""

    name = "counting"

    def __init__(self) -> None:
        self.setups = 0

    def setup(self) -> None:
        self.setups += 1

    def process(self, row: Row) -> None:
        if row["encoded"] == b"bad":
            raise ZeroDivisionError("nothing to divide")
        row["image"] = np.zeros((1, 1, 3), dtype=np.uint8)
        row["length"] = len(row["encoded"])


def test_stages_are_set_up_once_and_timings_pile_up() -> None:
    stage = Counting()
    operator = StageOperator([stage], threads=1)
    assert stage.setups == 0
    rows = [{"status": OK, "encoded": b"12"}, {"status": OK, "encoded": b"bad"}, {"status": FAILED, "reason": "x"}]
    before = {"counting": {"images": 5, "seconds": 1.0, "cpu_seconds": 1.0}}
    for shard in (4, 5):
        packed = operator({"shard": shard, "rows": pack_rows(rows, before)})
        done, timings = unpack_rows(packed["rows"])
        assert packed["shard"] == shard
        assert [row["status"] for row in done] == [OK, FAILED, FAILED]
        assert done[0] == {"status": OK, "encoded": b"12", "length": 2}  # the image is not carried on
        assert done[1]["message"] == "ZeroDivisionError: nothing to divide"
        assert timings["counting"]["images"] == 7
    assert stage.setups == 1
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)


class Together(Stage):
    """Decodes, and notes which images come together and how many lie decoded at that time."""

    name = "together"

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.seen: list[list[str]] = []
        self.decoded: list[int] = []

    def process(self, row: Row) -> None:
        row["image"] = decode_image(row["encoded"], 100)
        self.rows.append(row)

    def process_batch(self, rows: Sequence[Row]) -> list[Outcome]:
        self.seen.append([row["image_id"] for row in rows])
        outcomes = super().process_batch(rows)
        self.decoded.append(sum("image" in row for row in self.rows))
        return outcomes


@pytest.mark.parametrize(
    ("size", "batches"),
    [
        (1, [["a"], ["b"], ["c"], ["d"], ["f"], ["g"]]),
        (2, [["d"], ["a", "c"], ["f"], ["b", "g"]]),
        (3, [["d"], ["a", "c", "f"], ["b", "g"]]),
    ],
)
def test_images_of_one_shape_go_together_and_only_they_are_decoded(size: int, batches: list[list[str]]) -> None:
    wide, high = (encode_label(np.zeros(shape, dtype=np.uint8)) for shape in ((2, 3), (3, 2)))
    files = {"a": wide, "b": high, "c": wide, "d": b"no image", "e": b"", "f": wide, "g": high}
    rows = [
        {"image_id": image_id, "status": FAILED if image_id == "e" else OK, "encoded": data}
        for image_id, data in files.items()
    ]
    stage = Together()
    packed = StageOperator([stage], threads=1, batch_size=size)({"shard": 0, "rows": pack_rows(rows, {})})
    assert stage.seen == batches
    assert max(stage.decoded) <= size
    done, timings = unpack_rows(packed["rows"])
    assert [row["image_id"] for row in done] == list(files)
    assert [row["status"] for row in done] == [OK, OK, OK, FAILED, FAILED, OK, OK]
    assert timings["together"]["images"] == 6


def test_a_pass_in_batches_gives_what_it_gives_image_by_image(run: RunDirectory, photo: np.ndarray) -> None:
    files = [encoded_png(photo), encoded_png(photo[:, ::-1]), encoded_png(photo[:20]), encoded_png(255 - photo), b"bad"]
    maps = []
    for size in (1, 4):
        rows = [{"image_id": str(n), "status": OK, "keys": [1, 2], "encoded": data} for n, data in enumerate(files)]
        cam = CamStage(run.weights("classifier"), CamConfig(scales=(1.0,)), PredictedLabelsConfig(), ("one", "two"))
        operator = StageOperator([DecodeStage(10_000), cam], threads=1, batch_size=size)
        done, timings = unpack_rows(operator({"shard": 0, "rows": pack_rows(rows, {})})["rows"])
        assert [row["status"] for row in done] == [OK, OK, OK, OK, FAILED]
        assert {name: timing["images"] for name, timing in timings.items()} == {"decode": 5, "cam": 4}
        maps.append([row["cam"] for row in done[:4]])
    for one, other in zip(*maps, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_batches_are_of_one_image_on_a_cpu_and_larger_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"image_id": str(n), "status": OK, "encoded": encode_label(np.zeros((2, 3), dtype=np.uint8))} for n in range(9)
    ]
    for gpu, sizes in ((False, [1] * 9), (True, [8, 1])):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        stage = Together()
        StageOperator([stage], threads=1, batch_size=None)({"shard": 0, "rows": pack_rows(rows, {})})
        assert [len(batch) for batch in stage.seen] == sizes


def test_finish_writes_the_shard_and_returns_a_small_summary(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path))
    operator = FinishOperator([Counting()], 1, ShardWriter(run, "predict"))
    row = {"image_id": "a", "uri": "u", "status": OK, "encoded": b"bad"}
    told = operator({"shard": 2, "rows": pack_rows([row], {})})
    marker = run.finished_shards("predict")[2]
    assert json.loads(told.pop("marker")) == marker
    assert told == {
        "shard": 2,
        "ok": 0,
        "failed": 1,
        "skipped": 0,
        "reasons": {"error": 1},
        "stages": marker["stages"],
    }
    assert marker["reasons"] == {"error": 1}
    assert set(marker["stages"]) == {"counting", "write"}


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_image_height_and_width() -> None:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    row = {"encoded": png(image)}
    DecodeStage(max_pixels=6).process(row)
    np.testing.assert_array_equal(row["image"], image, strict=True)
    assert (row["height"], row["width"]) == (2, 3)
    assert row["encoded"] == png(image)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty_file"), (b"GIF8", "unreadable"), (png(np.zeros((3, 3, 3), np.uint8)), "too_large")],
)
def test_bad_bytes(data: bytes, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        DecodeStage(max_pixels=6).process({"encoded": data})
    assert caught.value.reason == reason
