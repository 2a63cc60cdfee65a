import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.crf import dense_crf
from support.golden import cases, load

from pfit_ray.constants import CrfEngine
from pfit_ray.ops.crf.crf import (
    DenseCrf,
    LabelCrf,
    PydensecrfField,
    SoftmaxCrf,
    label_crf,
    label_unary,
    softmax_crf,
    softmax_unary,
)

TOLERANCE: dict[CrfEngine, float] = {"pydensecrf": 1e-5, "native": 1e-3}
SAME_LABELS: dict[CrfEngine, float] = {"pydensecrf": 1.0, "native": 0.999}
ENGINES = pytest.mark.parametrize("engine", list(TOLERANCE))


def gray(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def test_label_unary_by_hand() -> None:
    unary = label_unary(np.array([[0, 2]]), 3, 0.7)
    given, other = -np.log(0.7), -np.log(0.15)
    np.testing.assert_allclose(unary[:, 0, 0], [given, other, other], rtol=1e-6)
    np.testing.assert_allclose(unary[:, 0, 1], [other, other, given], rtol=1e-6)
    assert unary.dtype == np.float32


def test_softmax_unary_clips_zero() -> None:
    np.testing.assert_allclose(softmax_unary(np.array([[[0.0]], [[1.0]]])), [[[-np.log(1e-5)]], [[0.0]]])


def test_no_iterations_give_softmax_of_the_unary() -> None:
    labels = np.array([[0, 1, 2]])
    q = label_crf(gray(1, 3), labels, 3, LabelCrf(iterations=0))
    np.testing.assert_allclose(q[:, 0], [[0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]], rtol=1e-5)


def test_a_speck_on_an_even_image_is_smoothed_away() -> None:
    labels = np.zeros((9, 9), dtype=np.int64)
    labels[4, 4] = 1
    q = label_crf(gray(9, 9), labels, 2, LabelCrf())
    assert (q.argmax(axis=0) == 0).all()


def test_labels_snap_to_the_border_of_the_image() -> None:
    image = gray(12, 12)
    image[:, 6:] = 250
    labels = np.zeros((12, 12), dtype=np.int64)
    labels[:, 5:] = 1
    q = label_crf(image, labels, 2, LabelCrf(gaussian_compat=0.0))
    assert q.argmax(axis=0)[0].tolist() == [0] * 6 + [1] * 6


@ENGINES
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (4, 6)])
@pytest.mark.parametrize("iterations", [0, 3])
def test_one_label_has_probability_one(size: tuple[int, int], iterations: int, engine: CrfEngine) -> None:
    labels = np.zeros(size, dtype=np.int64)
    q = label_crf(gray(*size), labels, 1, LabelCrf(iterations=iterations, engine=engine))
    np.testing.assert_array_equal(q, np.ones((1, *size), dtype=np.float32))
    options = SoftmaxCrf(iterations=iterations, engine=engine)
    q = softmax_crf(gray(*size), np.ones((1, *size), np.float32), options)
    np.testing.assert_array_equal(q, np.ones((1, *size), dtype=np.float32))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.integers(2, 6), st.integers(0, 3))
def test_as_by_the_book(seed: int, height: int, width: int, n_labels: int, iterations: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    unary = (rng.random((n_labels, height, width)) * 6).astype(np.float32)
    # Widths without ties: where a pixel lies between two simplices, rounding decides which lattice points there are.
    options = LabelCrf(iterations=iterations, gaussian_sxy=2.9, bilateral_sxy=21.3, bilateral_srgb=37.1)
    expected = dense_crf(image, unary, iterations, (2.9, 3.0), (21.3, 37.1, 10.0))
    np.testing.assert_allclose(DenseCrf(image, n_labels, options).infer(unary), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("options", [LabelCrf(), SoftmaxCrf()])
@pytest.mark.parametrize("n_labels", [2, 3, 5, 21])
def test_both_engines_agree(options: LabelCrf | SoftmaxCrf, n_labels: int) -> None:
    rng = np.random.default_rng(n_labels)
    coarse = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
    image = coarse.repeat(7, axis=0).repeat(7, axis=1) // 2 + rng.integers(0, 20, (70, 84, 3), dtype=np.uint8)
    unary = (rng.random((n_labels, 70, 84)) * 4).astype(np.float32)
    ours, theirs = (
        DenseCrf(image, n_labels, replace(options, engine=engine)).infer(unary) for engine in ("native", "pydensecrf")
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    assert (ours.argmax(axis=0) == theirs.argmax(axis=0)).mean() >= 0.999


@ENGINES
@pytest.mark.parametrize("n_labels", [1, 3, 5])
def test_several_unaries_give_what_each_gives_alone(engine: CrfEngine, n_labels: int) -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 40, (12, 13, 3), dtype=np.uint8)
    unaries = list((rng.random((2, n_labels, 12, 13)) * 3).astype(np.float32))
    field = DenseCrf(image, n_labels, LabelCrf(engine=engine))
    for together, unary in zip(field.infer_all(unaries), unaries, strict=True):
        np.testing.assert_array_equal(together, field.infer(unary))


def test_one_pixel_keeps_its_label() -> None:
    assert label_crf(gray(1, 1), np.array([[1]]), 3, LabelCrf())[:, 0, 0].argmax() == 1


@ENGINES
def test_a_view_of_an_image_gives_the_same_as_its_copy(engine: CrfEngine) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)[:, ::-1]
    image.flags.writeable = False
    unary = rng.random((8, 10, 3), dtype=np.float32).transpose(2, 0, 1)
    options = LabelCrf(engine=engine)
    np.testing.assert_array_equal(
        DenseCrf(image, 3, options).infer(unary), DenseCrf(image.copy(), 3, options).infer(unary.copy())
    )


def test_one_field_serves_many_unaries() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    field = DenseCrf(image, 2, LabelCrf())
    for _ in range(2):
        labels = rng.integers(0, 2, (6, 7))
        np.testing.assert_array_equal(field.infer(label_unary(labels, 2, 0.7)), label_crf(image, labels, 2, LabelCrf()))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        label_crf(np.zeros((2, 2, 3), np.float32), np.zeros((2, 2), int), 2, LabelCrf())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        label_crf(gray(2, 2), np.zeros((2, 3), int), 2, LabelCrf())


@ENGINES
@pytest.mark.parametrize("file", cases("crf_unit/label_*_t*.npz"))
def test_labels_as_published(file: Path, engine: CrfEngine) -> None:
    unit = load(file)
    n_labels, iterations = int(unit["n_labels"]), int(file.stem.rsplit("_t", 1)[1])
    unary = label_unary(unit["labels_in"], n_labels, 0.7)
    np.testing.assert_array_equal(unary.reshape(n_labels, -1), unit["unary"])
    q = label_crf(unit["image"], unit["labels_in"], n_labels, LabelCrf(iterations=iterations, engine=engine))
    np.testing.assert_allclose(q, unit["Q"], rtol=0, atol=TOLERANCE[engine])
    assert (q.argmax(axis=0) == unit["argmax"]).mean() >= SAME_LABELS[engine]


@ENGINES
@pytest.mark.parametrize("file", cases("crf_unit/softmax*_t*.npz"))
def test_probabilities_as_published(file: Path, engine: CrfEngine) -> None:
    unit = load(file)
    iterations = int(file.stem.rsplit("_t", 1)[1])
    unary = softmax_unary(unit["probs_in"])
    np.testing.assert_array_equal(unary.reshape(len(unary), -1), unit["unary"])
    q = softmax_crf(unit["image"], unit["probs_in"], SoftmaxCrf(iterations=iterations, engine=engine))
    np.testing.assert_allclose(q, unit["Q"], rtol=0, atol=TOLERANCE[engine])
    assert (q.argmax(axis=0) == unit["argmax"]).mean() >= SAME_LABELS[engine]


IMAGE = np.full((4, 5, 3), 9, np.uint8)


def test_probabilities_of_every_pixel() -> None:
    unary = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    q = PydensecrfField(IMAGE, 3, (3.0, 3.0), (50.0, 5.0, 10.0)).infer(unary, 2)
    assert (q.dtype, q.shape) == (np.float32, (3, 4, 5))
    np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-6)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ImportError, match=r"pfit-ray\[pydensecrf\]"):
        PydensecrfField(IMAGE, 3, (3.0, 3.0), (50.0, 5.0, 10.0))
