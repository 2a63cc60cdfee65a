import sys

import numpy as np
import pytest

from pfit_ray.ops.crf.crf_pydensecrf import PydensecrfField

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
