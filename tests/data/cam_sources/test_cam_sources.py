import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pfit_ray.config.stages import CamConfig
from pfit_ray.data.cam_sources import make_cam_source
from pfit_ray.data.cam_sources.external import ExternalCam
from pfit_ray.errors import RowError, UserError
from pfit_ray.tasks.encode import array_bytes

IMAGE = np.zeros((12, 16, 3), dtype=np.uint8)
MAPS = np.random.default_rng(0).random((2, 3, 4)).astype(np.float16)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def failure(folder: Path, data: bytes) -> str:
    (folder / "a.npz").write_bytes(data)
    with pytest.raises(RowError) as caught:
        ExternalCam(url=str(folder)).cam(IMAGE, "a", [1])
    assert caught.value.reason == "bad_cam"
    return caught.value.message


def test_maps_from_npz_files(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz(keys=np.array([5, 2]), cam=MAPS))
    found = ExternalCam(url=str(tmp_path)).cam(IMAGE, "a", [2])
    assert (found.keys, found.scores) == ([5, 2], None)
    np.testing.assert_array_equal(found.maps, MAPS, strict=True)
    with pytest.raises(RowError) as caught:
        ExternalCam(url=str(tmp_path)).cam(IMAGE, "b", [2])
    assert caught.value.reason == "missing"


def test_maps_from_a_table_as_pass_seeds_writes_it(tmp_path: Path) -> None:
    rows = pd.DataFrame({"image_id": ["a", "b"], "keys": [[5, 2], None], "cam": [array_bytes(MAPS), None]})
    rows.to_parquet(tmp_path / "00000.parquet")
    source = ExternalCam(url=f"{tmp_path}/*.parquet")
    source.setup()
    found = source.cam(IMAGE, "a", None)
    assert found.keys == [5, 2]
    np.testing.assert_array_equal(found.maps, MAPS)
    with pytest.raises(RowError, match="columns cam and keys are not both filled for 'b'"):
        source.cam(IMAGE, "b", None)


def test_files_that_hold_no_maps(tmp_path: Path) -> None:
    assert "the .npz file cannot be read" in failure(tmp_path, b"nonsense")
    assert "not a list of class ids" in failure(tmp_path, npz(keys=np.array([0.5, 1]), cam=MAPS))
    assert "for 1 keys, not numbers" in failure(tmp_path, npz(keys=np.array([1]), cam=MAPS))
    assert "for 2 keys, not numbers" in failure(tmp_path, npz(keys=np.array([1, 2]), cam=MAPS[0]))
    assert "larger than the image" in failure(tmp_path, npz(keys=np.array([1]), cam=np.zeros((1, 13, 4))))


def test_an_unknown_source_and_options_that_it_does_not_take() -> None:
    with pytest.raises(UserError, match=r"cam.source is 'grad', which is none of clip, external"):
        make_cam_source(CamConfig(source="grad"), ["cat"])
    assert isinstance(make_cam_source(CamConfig(source="external", options={"url": "maps"}), ["cat"]), ExternalCam)
