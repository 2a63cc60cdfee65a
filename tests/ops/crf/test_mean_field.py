import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfit_ray.ops.crf.mean_field import PairwiseTerm, mean_field


def terms(rng: np.random.Generator, n: int, compat: float = 4.0) -> tuple[PairwiseTerm, PairwiseTerm]:
    return (
        PairwiseTerm((rng.random((n, 2)) * 3).astype(np.float32), compat),
        PairwiseTerm((rng.random((n, 5)) * 3).astype(np.float32), compat),
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(2, 10), st.integers(0, 4))
def test_probabilities(seed: int, n: int, n_labels: int, iterations: int) -> None:
    rng = np.random.default_rng(seed)
    unaries = (rng.random((2, n_labels, n)) * 40).astype(np.float32)
    pair = mean_field(terms(rng, n), list(unaries), iterations)
    for q in pair:
        assert q.dtype == np.float32
        assert (q >= 0).all()
        np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("n_labels", [2, 3, 4, 6])
def test_two_unaries_give_what_each_gives_alone(n_labels: int) -> None:
    rng = np.random.default_rng(0)
    both = terms(rng, 200)
    unaries = (rng.random((2, n_labels, 200)) * 5).astype(np.float32)
    for together, unary in zip(mean_field(both, list(unaries), 7), unaries, strict=True):
        np.testing.assert_array_equal(together, mean_field(both, [unary], 7)[0])


def test_without_weight_the_unary_decides() -> None:
    rng = np.random.default_rng(1)
    unary = (rng.random((5, 20)) * 5).astype(np.float32)
    shares = np.exp(-unary)
    q = mean_field(terms(rng, 20, compat=0.0), [unary], 3)[0]
    np.testing.assert_allclose(q, shares / shares.sum(axis=0), atol=1e-6)


def test_the_order_of_the_labels_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    both = terms(rng, 100)
    unary = (rng.random((6, 100)) * 5).astype(np.float32)
    turned = mean_field(both, [unary[::-1].copy()], 5)[0]
    np.testing.assert_allclose(turned[::-1], mean_field(both, [unary], 5)[0], atol=1e-4)
