import threading
import time

import pytest

from pfit_ray.prefetch import prefetch


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_prefetch_keeps_the_order(threads: int) -> None:
    def slow_square(x: int) -> int:
        time.sleep(0.002 * (x % 3))
        return x * x

    assert list(prefetch(slow_square, range(20), threads, ahead=5)) == [x * x for x in range(20)]


def test_prefetch_is_bounded() -> None:
    started: list[int] = []
    stream = prefetch(lambda x: started.append(x) or x, range(100), 2, ahead=4)
    assert next(stream) == 0
    time.sleep(0.05)
    assert len(started) <= 5
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_prefetch_raises_in_order() -> None:
    def fails(x: int) -> int:
        if x == 2:
            raise ValueError("two")
        return x

    stream = prefetch(fails, range(5), 2, ahead=5)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(stream)
