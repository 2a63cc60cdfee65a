import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.crf import Filter, gaussian_filter

from pfit_ray.ops.crf.mean_field import PairwiseTerm
from pfit_ray.ops.crf.permutohedral import build_lattice, filtered_ones


def features(seed: int, n: int, dimensions: int, spread: float) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, dimensions)) * spread).astype(np.float32)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 6), st.sampled_from([0.1, 2.0, 30.0]))
def test_the_same_lattice_as_by_the_book(seed: int, n: int, dimensions: int, spread: float) -> None:
    given_features = features(seed, n, dimensions, spread)
    ours, oracle = build_lattice(given_features), Filter(given_features)
    assert ours.size == len(oracle.points)
    for weights, corners in zip(ours.weights, oracle.corners, strict=True):
        np.testing.assert_allclose(weights, [weight for _, weight in corners], atol=2e-5)
    np.testing.assert_allclose(filtered_ones(ours), oracle.apply(np.ones((n, 1)))[:, 0], rtol=1e-4)


def test_a_table_that_has_grown_loses_nothing() -> None:
    ours, oracle = (kind(features(1, 400, 5, 20.0)) for kind in (build_lattice, Filter))
    assert ours.size == len(oracle.points) > 1000
    np.testing.assert_allclose(filtered_ones(ours), oracle.apply(np.ones((400, 1)))[:, 0], rtol=1e-4)


def test_each_chain_holds_neighbours_and_ends() -> None:
    lattice = build_lattice(features(2, 50, 2, 3.0))
    for chain, length in zip(lattice.chains, lattice.lengths, strict=True):
        entries = chain[:length]
        assert length == 0 or entries[-1] & 1
        assert len(set((entries >> 1).tolist())) == length
        ends = np.flatnonzero(entries & 1)
        assert (np.diff(ends, prepend=-1) >= 2).all()


def test_the_lattice_is_near_the_gaussian() -> None:
    rows, columns = np.mgrid[:16, :16].astype(np.float32)
    place = np.stack([columns, rows], axis=-1).reshape(-1, 2) / 3
    values = np.random.default_rng(3).random((256, 2))
    exact, near = gaussian_filter(place, values), Filter(place).normalised(values)
    assert np.abs(exact - near).max() < 0.1 * exact.max()


def test_ones_of_a_term_are_the_sum_of_its_weights() -> None:
    given_features = features(4, 60, 3, 4.0)
    oracle = Filter(given_features)
    expected = 7 * oracle.normalised(np.ones((60, 1)))[:, 0]
    np.testing.assert_allclose(PairwiseTerm(given_features, 7.0).ones, expected, rtol=1e-4)


def test_widths_that_no_key_can_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        build_lattice(features(5, 10, 5, 1e5))
