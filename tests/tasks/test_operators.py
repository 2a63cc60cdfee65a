from pathlib import Path

import cv2
import numpy as np
import torch

from pfit_ray.layout import RunDirectory
from pfit_ray.schema import FAILED, OK, Row
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.operators import FinishOperator, StageOperator
from pfit_ray.tasks.packing import pack_rows, unpack_rows
from pfit_ray.tasks.write import ShardWriter


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


def test_finish_writes_the_shard_and_returns_a_small_summary(tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path))
    operator = FinishOperator([Counting()], 1, ShardWriter(run, "predict"))
    row = {"image_id": "a", "uri": "u", "status": OK, "encoded": b"bad"}
    assert operator({"shard": 2, "rows": pack_rows([row], {})}) == {"shard": 2, "ok": 0, "failed": 1}
    marker = run.finished_shards("predict")[2]
    assert marker["reasons"] == {"error": 1}
    assert set(marker["stages"]) == {"counting", "write"}
