import numpy as np
import pytest
from numba import njit

from pfit_ray.ops.crf import lanes


@njit
def calculate(name, left, right, out):
    one, two = lanes.load(left, 0), lanes.load(right, 0)
    if name == "add":
        one = lanes.add(one, two)
    elif name == "subtract":
        one = lanes.subtract(one, two)
    elif name == "multiply":
        one = lanes.multiply(one, two)
    elif name == "divide":
        one = lanes.divide(one, two)
    elif name == "maximum":
        one = lanes.maximum(one, two)
    elif name == "add_scaled":
        one = lanes.add_scaled(one, lanes.spread(np.float32(2)), two)
    elif name == "swap_neighbours":
        one = lanes.swap_neighbours(one)
    elif name == "swap_halves":
        one = lanes.swap_halves(one)
    lanes.store(out, 1, one)


@njit
def exponentials(values, out):
    for at in range(0, len(values), lanes.LANES):
        lanes.store(out, at, lanes.exponential(lanes.load(values, at)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("add", [3, 7, 8, 5]),
        ("subtract", [-1, 3, -2, -3]),
        ("multiply", [2, 10, 15, 4]),
        ("divide", [0.5, 2.5, 0.6, 0.25]),
        ("maximum", [2, 5, 5, 4]),
        ("add_scaled", [5, 9, 13, 9]),
        ("swap_neighbours", [5, 1, 1, 3]),
        ("swap_halves", [3, 1, 1, 5]),
    ],
)
def test_four_floats_at_once(name: str, expected: list[float]) -> None:
    left, right = np.array([1, 5, 3, 1], np.float32), np.array([2, 2, 5, 4], np.float32)
    out = np.full(6, 9, np.float32)
    calculate(name, left, right, out)
    np.testing.assert_allclose(out, [9, *expected, 9], rtol=1e-7)


def test_exponential() -> None:
    values = -np.concatenate([np.linspace(0, 2, 4000), np.linspace(0, 49.99, 40000)]).astype(np.float32)
    out = np.empty_like(values)
    exponentials(values, out)
    np.testing.assert_allclose(out, np.exp(values.astype(np.float64)), rtol=4e-7)
    assert out[0] == 1


def test_exponential_of_little_is_zero() -> None:
    values = np.array([-50.1, -1e3, -1e30, -np.inf], np.float32)
    out = np.empty_like(values)
    exponentials(values, out)
    assert out.tolist() == [0, 0, 0, 0]
