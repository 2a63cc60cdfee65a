import numpy as np
import pytest
import torch

from pfit_ray.train.networks import build_objective


@pytest.mark.parametrize("name", ["classifier", "affinitynet", "deeplab"])
def test_parts_terms_and_weights_belong_together(name, make_config) -> None:
    objective = build_objective(name, make_config())
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 64, 64), dtype=np.uint8)
    keys = np.array([1, 2], np.int32)
    targets = torch.from_numpy(np.stack([objective.make_target(keys, label) for label in labels]))
    count = len(objective.parts)
    assert objective(torch.randn(2, 3, 64, 64), targets).shape == (count,)
    assert objective.terms(targets).shape == (count,)
    assert objective.terms(targets).dtype == torch.float64
    assert len(objective.weights(0, 10)) == count
