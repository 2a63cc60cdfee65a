from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.walk import dense_transition, dense_walk
from support.golden import assert_close_to_maximum, cases, load

from pfit_ray.ops.affinity.walk import merge_edge_logits, random_walk, transition_matrix, upsample_walk


def random_edge(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    edge = (rng.random((height, width)) ** 4).astype(np.float32)
    edge[rng.random((height, width)) < 0.1] = 1.0
    edge[rng.random((height, width)) < 0.1] = np.float32(1) - np.float32(2**-23)
    return edge


def test_transition_matrix_by_hand() -> None:
    # Three cells in a row, radius 2: only direct neighbours are joined, by (1 - the higher edge) squared.
    matrix = transition_matrix(np.array([[0.5, 0.0, 0.2]]), radius=2, beta=2.0).toarray()
    affinity = np.array([[1.0, 0.25, 0.0], [0.25, 1.0, 0.64], [0.0, 0.64, 1.0]])
    np.testing.assert_allclose(matrix, affinity / affinity.sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "radius"),
    [(1, 1, 5), (1, 9, 5), (9, 1, 5), (2, 3, 5), (4, 4, 3), (7, 11, 5), (12, 6, 5), (5, 5, 2), (8, 9, 7)],
)
def test_transition_matrix_equals_the_dense_one(height: int, width: int, radius: int) -> None:
    edge = random_edge(height * width, height, width)
    matrix = transition_matrix(edge, radius=radius, beta=10.0)
    np.testing.assert_allclose(matrix.toarray(), dense_transition(edge, radius, 10.0), rtol=1e-12, atol=1e-90)
    np.testing.assert_allclose(matrix.sum(axis=0), 1.0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 2), (10, 13), (16, 9)])
@pytest.mark.parametrize(("beta", "exp_times"), [(10.0, 8), (3.5, 0), (1.0, 3)])
def test_walk_equals_the_dense_one(height: int, width: int, beta: float, exp_times: int) -> None:
    edge = random_edge(height + width, height, width)
    cam = np.random.default_rng(7).random((3, height, width)).astype(np.float32)
    walk = random_walk(cam, edge, radius=5, beta=beta, exp_times=exp_times)
    np.testing.assert_allclose(walk, dense_walk(cam, edge, 5, beta, exp_times), rtol=1e-5, atol=1e-36)


def test_a_wall_holds_the_walk_back() -> None:
    edge = np.zeros((6, 7), np.float32)
    edge[:, 3] = 1.0
    cam = np.zeros((1, 6, 7), np.float32)
    cam[0, :, :3] = 1.0
    walk = random_walk(cam, edge, radius=5, beta=10.0, exp_times=8)
    np.testing.assert_allclose(walk[0, :, :3], 1.0, rtol=1e-6)
    assert not walk[0, :, 3:].any()


def test_small_values_end_as_zero_not_as_denormals() -> None:
    edge = np.zeros((1, 40), np.float32)
    edge[0, 20] = 1 - 2**-20
    cam = np.zeros((1, 1, 40), np.float32)
    cam[0, 0, :5] = 1e-5
    walk = random_walk(cam, edge, radius=5, beta=10.0, exp_times=6)
    assert ((walk == 0) | (walk >= 1e-36)).all()
    assert walk[0, 0, 0] > 0


def test_walk_of_no_classes() -> None:
    walk = random_walk(np.zeros((0, 2, 3), np.float32), np.zeros((2, 3), np.float32), radius=5, beta=10.0, exp_times=8)
    assert walk.shape == (0, 2, 3)


def test_walk_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        random_walk(np.zeros((1, 2, 3)), np.zeros((3, 2)), radius=5, beta=10.0, exp_times=8)


@pytest.mark.parametrize(("per_class", "maxima"), [(False, [0.25, 1.0, 0.0]), (True, [1.0, 1.0, 0.0])])
def test_upsample_normalises(per_class: bool, maxima: list[float]) -> None:
    walk = np.zeros((3, 2, 2), np.float32)
    walk[0], walk[1] = 0.5, 2.0
    large = upsample_walk(walk, 7, 5, per_class=per_class)
    assert large.shape == (3, 7, 5)
    assert large.dtype == np.float32
    assert large.max(axis=(1, 2)).tolist() == maxima


def test_upsample_interpolates_between_cell_centres() -> None:
    large = upsample_walk(np.array([[[0.0, 8.0]]], np.float32), 1, 8, per_class=False)
    np.testing.assert_allclose(large[0, 0] * 8, [0, 0, 1, 3, 5, 7, 8, 8], atol=1e-6)


def test_upsample_of_no_classes_and_one_pixel() -> None:
    assert upsample_walk(np.zeros((0, 2, 2), np.float32), 8, 7, per_class=False).shape == (0, 8, 7)
    assert upsample_walk(np.full((1, 1, 1), 3.0), 1, 1, per_class=True).tolist() == [[[1.0]]]


def test_upsample_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="needs"):
        upsample_walk(np.zeros((1, 2, 2), np.float32), 9, 8, per_class=False)


def test_edge_of_a_mirrored_padded_image() -> None:
    straight = torch.arange(8.0).view(1, 8).numpy()
    logits = np.stack([straight, straight[:, ::-1]])
    edge = merge_edge_logits(logits, 1, 21, flip_after_crop=False)
    np.testing.assert_allclose(edge, 1 / (1 + np.exp(-straight[:, :6])), rtol=1e-6)


def test_edge_of_a_padded_mirror_image() -> None:
    logits = np.array([[[0.0, 2.0, 4.0, 9.0]], [[1.0, 3.0, 5.0, 9.0]]])
    edge = merge_edge_logits(logits, 4, 12, flip_after_crop=True)
    np.testing.assert_allclose(edge, 1 / (1 + np.exp(-np.array([[2.5, 2.5, 2.5]]))), rtol=1e-6)
    assert edge.dtype == np.float32


def test_extreme_logits_saturate_silently() -> None:
    edge = merge_edge_logits(np.array([[[-1e4, 1e4]]] * 2, np.float32), 1, 8, flip_after_crop=True)
    assert edge.tolist() == [[0.5, 0.5]]
    edge = merge_edge_logits(np.array([[[-1e4]]] * 2, np.float32), 1, 1, flip_after_crop=True)
    assert edge.tolist() == [[0.0]]


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (2, 2)])
def test_logits_that_do_not_cover_the_image_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="edge logits"):
        merge_edge_logits(np.zeros(shape), 8, 8, flip_after_crop=False)


@pytest.mark.parametrize("file", cases("07_random_walk/*.npz"))
def test_walk_as_published(file: Path) -> None:
    unit = load(file)
    walk = random_walk(unit["cam"], unit["edge"][0], radius=5, beta=10.0, exp_times=8)
    assert_close_to_maximum(walk, unit["rw"][:, 0])
    large = upsample_walk(walk, *unit["rw_up"].shape[1:], per_class=False)
    assert_close_to_maximum(large, unit["rw_up"])


@pytest.mark.parametrize("file", cases("07_random_walk/*.npz"))
def test_transitions_as_published(file: Path) -> None:
    unit = load(file)
    if "T" not in unit:
        pytest.skip(f"{file} holds no transition matrix T")
    step = transition_matrix(unit["edge"][0], radius=5, beta=10.0).toarray()
    assert_close_to_maximum(np.linalg.matrix_power(step, 2**8), unit["T"])
