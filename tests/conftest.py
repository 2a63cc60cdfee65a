"""Where the tests find golden data and real photographs; they are skipped where these are absent."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


def _found(variable: str, default: Path, what: str) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.exists():
        pytest.skip(f"{what} not found at {path}; set {variable} to its place")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with inputs and outputs of the published programs."""
    return _found("PFIT_GOLDEN", SHARED / "golden", "golden data")


@pytest.fixture(scope="session")
def voc_animals() -> Path:
    """A VOC2012 folder with photographs of six animal classes."""
    return _found("PFIT_VOC_ANIMALS", SHARED / "data" / "voc_animals" / "VOC2012", "VOC-animals photographs")


@pytest.fixture(scope="session")
def animal_weights() -> Path:
    """Weights of a CAM classifier trained on the VOC-animals photographs."""
    name = "voc_animals_efficientnet_lite0.safetensors"
    return _found("PFIT_WEIGHTS", SHARED / "weights" / name, "classifier weights")
