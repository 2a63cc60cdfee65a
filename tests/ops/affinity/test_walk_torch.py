import numpy as np
import pytest
import torch
from oracles.walk import dense_walk

from pfit_ray.ops.affinity.walk import random_walk, transition_matrix
from pfit_ray.ops.affinity.walk_torch import random_walks, stencil_weights


def random_edges(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    edges = (rng.random(shape) ** 4).astype(np.float32)
    edges[rng.random(shape) < 0.1] = 1.0
    edges[rng.random(shape) < 0.1] = np.float32(1) - np.float32(2**-23)
    return edges


def test_weights_by_hand() -> None:
    # Three cells in a row, radius 2, affinities 0.25 and 0.64 to the neighbours and 1 to the cell itself.
    weights, offsets = stencil_weights(torch.tensor([[[0.5, 0.0, 0.2]]]), radius=2, beta=2.0)
    found = {offset: weights[0, place, 0].tolist() for place, offset in enumerate(offsets)}
    sums = np.array([1.25, 1.89, 1.64])
    np.testing.assert_allclose(found[0, 0], 1.0 / sums, rtol=1e-6)
    np.testing.assert_allclose(found[0, 1], np.array([0.25, 0.64, 0.0]) / sums, rtol=1e-6)
    np.testing.assert_allclose(found[0, -1], np.array([0.0, 0.25, 0.64]) / sums, rtol=1e-6)
    assert not any(found[dy, dx][x] for dy, dx in found if dy for x in range(3))


@pytest.mark.parametrize(("height", "width", "radius"), [(1, 1, 5), (2, 3, 5), (7, 11, 5), (8, 9, 7)])
def test_weights_are_the_columns_of_the_transition_matrix(height: int, width: int, radius: int) -> None:
    edge = random_edges(height * width, height, width)
    weights, offsets = stencil_weights(torch.from_numpy(edge)[None], radius=radius, beta=10.0)
    dense = np.zeros((height * width,) * 2)
    for place, (dy, dx) in enumerate(offsets):
        for y, x in np.argwhere(weights[0, place].numpy()):
            dense[(y + dy) * width + x + dx, y * width + x] = weights[0, place, y, x]
    matrix = transition_matrix(edge, radius=radius, beta=10.0).toarray()
    np.testing.assert_allclose(dense, matrix, rtol=1e-12, atol=1e-90)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 2), (10, 13), (16, 9)])
@pytest.mark.parametrize(("beta", "exp_times"), [(10.0, 8), (3.5, 0), (1.0, 3)])
def test_walks_equal_the_walk_of_each_image(height: int, width: int, beta: float, exp_times: int) -> None:
    edges = random_edges(height + width, 3, height, width)
    cams = np.random.default_rng(7).random((3, 2, height, width)).astype(np.float32)
    cams[1, 1] = 0.0  # an image of one class
    numbers = {"radius": 5, "beta": beta, "exp_times": exp_times}
    walks = random_walks(torch.from_numpy(cams), torch.from_numpy(edges), **numbers).numpy()
    assert walks.dtype == np.float32
    for walk, cam, edge in zip(walks, cams, edges, strict=True):
        np.testing.assert_allclose(walk, random_walk(cam, edge, **numbers), rtol=1e-5, atol=1e-36)
        np.testing.assert_allclose(walk, dense_walk(cam, edge, 5, beta, exp_times), rtol=1e-5, atol=1e-36)


def test_what_leaks_through_a_wall_may_be_far_below_single_precision_on_its_way() -> None:
    edges = np.zeros((1, 1, 40), np.float32)
    edges[0, 0, 20] = 1 - 2**-20
    cams = np.full((1, 1, 1, 40), 1e-5, np.float32)
    cams[..., 20:] = 0.0
    numbers = {"radius": 5, "beta": 10.0, "exp_times": 6}
    walks = random_walks(torch.from_numpy(cams), torch.from_numpy(edges), **numbers).numpy()
    np.testing.assert_allclose(walks[0], random_walk(cams[0], edges[0], **numbers), rtol=1e-5, atol=0)
    assert ((walks == 0) | (walks >= 1e-36)).all()


def test_walks_of_no_classes() -> None:
    walks = random_walks(torch.zeros(2, 0, 3, 4), torch.zeros(2, 3, 4), radius=5, beta=10.0, exp_times=2)
    assert walks.shape == (2, 0, 3, 4)


def test_walks_refuse_another_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        random_walks(torch.zeros(2, 1, 3, 4), torch.zeros(2, 4, 3), radius=5, beta=10.0, exp_times=2)
