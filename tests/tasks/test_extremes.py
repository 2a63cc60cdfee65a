"""All stages of all passes on images of extreme shapes, with and without classes."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pfit_ray.config import PASSES, RunConfig
from pfit_ray.constants import OK, Row
from pfit_ray.data.images import decode_mask
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.base import run_stages
from pfit_ray.tasks.encode import array_from_bytes
from pfit_ray.tasks.passes import plan_pass

SCORES = {
    "seeds": ("mask_agreement", "cam_margin", "foreground_share"),
    "labels": ("walk_margin", "crf_change", "foreground_share"),
    "predict": ("margin", "crf_change", "foreground_share"),
}


def png(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("keys", [[], [1, 2], None])
def test_every_stage_passes(
    run: RunDirectory, make_config: Callable[..., RunConfig], size: tuple[int, int], keys: list[int] | None
) -> None:
    config = make_config(walk={"exp_times": 2}, affinity_label={"crf": {"iterations": 2}})
    seed: Row = {}
    for name in PASSES:
        plan = plan_pass(name, config, run)
        row = {"image_id": "a", "uri": "u", "status": OK, "keys": keys, "encoded": png(*size)}
        if name == "labels":
            row |= {
                column: seed[column] for column in ("keys", *(f"regions_{source}" for source in config.region_names))
            }
            row["seed_cam"] = array_from_bytes(seed["cam"])
        for stage in (*plan.network, *plan.finish):
            stage.setup()
            run_stages([stage], [row])
            assert row["status"] == OK, row
        assert decode_mask(row["label"]).shape == size
        scores = np.array([row[score] for score in SCORES[name]])
        assert np.isfinite(scores).all()
        assert 0 <= scores.min() <= scores.max() <= 1
        seed = row if name == "seeds" else seed
