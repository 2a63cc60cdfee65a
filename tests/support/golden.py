"""Golden data, inputs and outputs of the published programs: one test for each item that lies there."""

import importlib.util
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.places import SHARED

ROOT = Path(os.environ.get("PFIT_GOLDEN", SHARED / "golden"))
REGION_FOLDERS = {"slic": "01_uss_slic", "quickshift": "01_uss_quick"}
"""Where the regions of each source lie."""
LARGE = 50_000
"""Networks on images with more pixels than this are slow."""


def cases(
    *patterns: str, slow: Callable[[Path], bool] | None = None, nightly: Callable[[Path], bool] | None = None
) -> list[Any]:
    """Parameters of a test, one for each golden file that fits a pattern.

    Args:
        patterns: as `Path.glob` takes them, below the golden folder. One that nothing fits gives a parameter
            that is skipped and says so, so that no test passes over nothing.
        slow: which files make the test slow.
        nightly: which make it one for the night.
    """
    found: list[Any] = []
    for pattern in patterns:
        files = sorted(ROOT.glob(pattern))
        for file in files:
            at_night, is_slow = (holds is not None and holds(file) for holds in (nightly, slow))
            mark = pytest.mark.nightly if at_night else pytest.mark.slow
            found.append(_case(file, [mark] if at_night or is_slow else [], file))
        found += [] if files else [_absent(pattern)]
    return found


def member_cases(pattern: str, prefix: str) -> list[Any]:
    """Parameters (file, rest of the name), one for each array in the .npz files whose name has the prefix."""
    found = []
    for file in sorted(ROOT.glob(pattern)):
        names = [name for name in load(file) if name.startswith(prefix)]
        found += [_case(file, [], file, name.removeprefix(prefix)) for name in names]
    return found or [_absent(f"{pattern} with {prefix}*", 2)]


def _case(file: Path, marks: list[Any], *values: Any) -> Any:
    name = "-".join([file.relative_to(ROOT).with_suffix("").as_posix(), *values[1:]])
    return pytest.param(*values, id=name, marks=marks)


def _absent(what: str, n_values: int = 1) -> Any:
    where = f"there is no {what} in {ROOT}" if ROOT.exists() else f"golden data not found at {ROOT}"
    skip = pytest.mark.skip(reason=f"{where}; set PFIT_GOLDEN to its place")
    return pytest.param(*[None] * n_values, id=f"no {what}", marks=skip)


def item(name: str) -> Path:
    """A golden file that a test needs besides its own; the test is skipped where it is absent."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"golden item {name} is not in {ROOT}")
    return path


def load(file: Path) -> Any:
    """The array in an .npy file, or all arrays in an .npz file by name."""
    if file.suffix == ".npy":
        return np.load(file)
    with np.load(file) as arrays:
        return dict(arrays)


def array(name: str) -> Any:
    """What `load` reads from a golden file; the test is skipped where it is absent."""
    return load(item(name))


def golden_image(image_id: str) -> np.ndarray:
    """The decoded image: uint8 RGB (H, W, 3)."""
    pixels: np.ndarray = array(f"00_inputs/{image_id}_rgb.npy")
    return pixels


def is_large(file: Path) -> bool:
    """Whether the image with this file's name is large."""
    try:
        with Image.open(ROOT / "00_inputs" / f"{file.stem}.jpg") as photo:
            return photo.width * photo.height > LARGE
    except FileNotFoundError:
        return False


def assert_close_to_maximum(ours: np.ndarray, published: np.ndarray, tolerance: float = 1e-4) -> None:
    """Compare with a tolerance in units of the largest published value; neither side may have NaN or infinity."""
    assert ours.shape == published.shape
    assert np.isfinite(published).all()
    np.testing.assert_allclose(ours, published, rtol=0, atol=tolerance * np.abs(published).max())


@cache
def _checkpoint_maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_checkpoint", item("make_checkpoint.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkpoint(network: str, backbone: str) -> dict[str, Any]:
    """A checkpoint in the published format whose tensors follow from their names."""
    keys = json.loads(item(f"nets/{network}_{backbone}_keys.json").read_text())
    state: dict[str, Any] = _checkpoint_maker().state_dict(keys)
    return state
