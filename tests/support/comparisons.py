"""Comparisons of numbers that are worth their name."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np


def refusing_nan(compare: Callable[..., None]) -> Callable[..., None]:
    """One of numpy's comparisons, to which NaN equals NaN: a network and its oracle, both broken, would agree.

    Where NaN is the right answer the test says so with `equal_nan=True`.
    """

    @wraps(compare)
    def refusing(actual: Any, desired: Any, *args: Any, **options: Any) -> None:
        for values in () if options.get("equal_nan") else map(np.asarray, (actual, desired)):
            assert values.dtype.kind not in "fc" or not np.isnan(values).any(), "NaN is equal to nothing"
        compare(actual, desired, *args, **options)

    return refusing
