"""Networks with random weights, as the bytes of weight files, and a run directory that holds them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network
from pfit_ray.rundir.directory import Network, RunDirectory

LITE = "efficientnet_lite0"
MakeConfig = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Puts back the numbers of threads that operators set."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture(scope="session")
def checkpoints() -> dict[Network, bytes]:
    """Weight files of the three networks for two classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "classifier": save_network(CamClassifier(LITE, 2), {}),
            "affinitynet": save_network(AffinityNet(LITE), {}),
            "deeplab": save_network(DeepLabV3Plus(LITE, 3, group_norm=True), {}),
        }


@pytest.fixture
def run(tmp_path: Path, checkpoints: dict[Network, bytes]) -> RunDirectory:
    """A run directory with weights and nothing else."""
    directory = RunDirectory(str(tmp_path / "run"))
    for network, data in checkpoints.items():
        storage.write_bytes(directory.weights(network), data)
    return directory


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """A quick run of two classes; arguments are top-level fields."""

    def make(**fields: Any) -> RunConfig:
        return validate(
            {
                "output": str(tmp_path / "run"),
                "data": {"source": "folder", "root": str(tmp_path / "images"), "classes": ["one", "two"]},
                "network_engine": "channels_last",  # no graph to build for onnxruntime
                "cam": {"scales": [1.0]},
                "regions": {"slic": {"n_segments": 20}, "uss": {"max_iterations": 2}},
                "walk": {"exp_times": 2},
                "predict": {"scales": [1.0]},
                **fields,
            }
        )

    return make


@pytest.fixture
def photo() -> np.ndarray:
    """A photograph of 37 x 30 pixels: a red box on blue ground, with noise."""
    image = np.random.default_rng(0).integers(0, 60, (30, 37, 3), dtype=np.uint8)
    image[..., 2] += 120
    image[8:22, 10:26] += np.array([180, 0, 0], dtype=np.uint8)
    return image
