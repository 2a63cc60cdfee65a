import numpy as np
import pytest

from pfit_ray.ops.regions.uss_kernels import STRIDE, TILE, convolve, convolve_gradient, mix, mix_gradient

WIDTHS = [1, 7, 8, 100, TILE]


def tiles(rng, *channels):
    return rng.standard_normal((*channels, STRIDE)).astype(np.float32)


@pytest.mark.parametrize("width", WIDTHS)
def test_mix_is_a_matrix_product(width):
    rng = np.random.default_rng(width)
    tile, out = tiles(rng, 8), tiles(rng, 4)
    weight = rng.standard_normal((4, 8)).astype(np.float32)
    mix(out.ravel(), tile.ravel(), weight.ravel(), 4, 8, width)
    np.testing.assert_allclose(out[:, :width], weight @ tile[:, :width], atol=1e-5)


@pytest.mark.parametrize("width", WIDTHS)
def test_mix_gradient_adds_a_matrix_product(width):
    rng = np.random.default_rng(width)
    upper, tile = tiles(rng, 8), tiles(rng, 6)
    gradient = np.ones((8, 6), np.float32)
    mix_gradient(gradient.ravel(), upper.ravel(), tile.ravel(), 8, 6, width)
    np.testing.assert_allclose(gradient, 1 + upper[:, :width] @ tile[:, :width].T, rtol=1e-4, atol=1e-4)


def shifted(ring, row, width):
    """The nine neighbours of each pixel: (3 rows, n_in, 3 columns, width)."""
    rows = np.stack([ring[(row + step - 1) % 3] for step in range(3)])
    return np.stack([rows[:, :, column : column + width] for column in range(3)], axis=2)


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("width", WIDTHS)
def test_convolve_sums_nine_neighbours(width, row):
    rng = np.random.default_rng(width)
    ring, out = tiles(rng, 3, 5), tiles(rng, 4)
    weight = rng.standard_normal((4, 3, 5, 3)).astype(np.float32)
    convolve(out.ravel(), ring.ravel(), row, weight.ravel(), 4, 5, width)
    expected = np.einsum("oskc,skcp->op", weight, shifted(ring, row, width))
    np.testing.assert_allclose(out[:, :width], expected, atol=1e-4)


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("width", WIDTHS)
def test_convolve_gradient_sums_over_the_pixels(width, row):
    rng = np.random.default_rng(width)
    ring, upper = tiles(rng, 3, 5), tiles(rng, 3, 4)
    gradient = np.ones((4, 3, 5, 3), np.float32)
    start = 2 * 4 * STRIDE + 1
    convolve_gradient(gradient.ravel(), upper.ravel(), start, ring.ravel(), row, 4, 5, width)
    expected = 1 + np.einsum("op,skcp->oskc", upper[2, :, 1 : 1 + width], shifted(ring, row, width))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)
