from pathlib import Path

import numpy as np
import pytest
from support.tiny_models import write_sam, write_sam2

from pfit_ray.data import hub
from pfit_ray.data.region_sources.sam import SamRegions, paint
from pfit_ray.errors import UserError

pytest.importorskip("transformers", reason='transformers is not installed: pip install "pfit-ray[foundation]"')
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)


def source(folder: Path, **options: float) -> SamRegions:
    made = SamRegions(model=str(folder), points_per_side=4, **options)
    made.setup()
    return made


@pytest.mark.parametrize("write", [write_sam, write_sam2])
def test_regions(write, tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    some = {"min_iou": 0.0, "min_stability": 0.0, "max_overlap": 1.0}
    found = source(folder, points_per_batch=5, **some).regions(IMAGE, "a")
    assert found.shape == (48, 60)
    assert found.dtype.kind == "i"
    assert found.min() >= 0
    assert found.max() > 0
    np.testing.assert_array_equal(source(folder, points_per_batch=5, **some).regions(IMAGE, "b"), found)
    np.testing.assert_array_equal(source(folder, points_per_batch=16, **some).regions(IMAGE, "c"), found)
    assert not source(folder, min_iou=1.0, min_stability=1.0).regions(IMAGE, "a").any()  # no mask is that good


def test_paint() -> None:
    large, small = (np.array(rows, dtype=bool) for rows in ([[1, 1, 1, 0]], [[0, 1, 0, 0]]))
    same = np.array([[1, 0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(paint([small, large], (1, 4)), [[1, 2, 1, 0]])
    np.testing.assert_array_equal(paint([small, large, same], (1, 4)), [[2, 3, 1, 0]])
    np.testing.assert_array_equal(paint([same, same], (1, 4)), [[2, 0, 0, 0]])
    np.testing.assert_array_equal(paint([], (1, 4)), [[0, 0, 0, 0]])


def test_models_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"kind sam: .*nothing must be a folder with config.json and model.safetensors"):
        SamRegions(model=str(tmp_path / "nothing"))
    folder = write_sam(tmp_path / "model")
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot be had"):
        source(folder)
    weights.rename(folder / "pytorch_model.bin")  # a pickle, which nobody loads
    with pytest.raises(UserError, match="must be a folder with"):
        SamRegions(model=str(folder))
    monkeypatch.setattr(hub.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package transformers; pip install .pfit-ray\[foundation\]"):
        SamRegions(model="facebook/sam-vit-base")


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    def offline(*args: object, **options: object) -> None:
        raise OSError("We couldn't connect to the hub.\nCheck your connection.")

    monkeypatch.setattr(AutoConfig, "from_pretrained", offline)
    with pytest.raises(UserError) as caught:
        SamRegions(model="facebook/sam-vit-base").setup()
    assert "model 'facebook/sam-vit-base' cannot be had (OSError: We couldn't connect to the hub.)" in str(caught.value)
