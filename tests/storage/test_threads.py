import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from pfit_ray.storage.threads import chain_ahead, prefetch


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


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_streams_are_chained_in_their_order(threads: int) -> None:
    streams = [lambda first=first: iter(range(first, first + 5)) for first in range(0, 50, 5)]
    assert list(chain_ahead(streams, threads, ahead=4, head=2)) == list(range(50))


def test_streams_are_opened_a_bounded_number_ahead_and_read_to_their_head() -> None:
    read: list[int] = []

    def stream(number: int) -> Iterator[int]:
        for item in range(100):
            read.append(number)
            yield item

    chained = chain_ahead((partial(stream, number) for number in range(50)), 2, ahead=4, head=10)
    next(chained)
    time.sleep(0.05)
    assert len(set(read)) <= 5
    assert max(read.count(number) for number in set(read)) <= 10
    chained.close()


def test_a_stream_without_threads_is_opened_when_its_turn_comes() -> None:
    opened: list[int] = []
    streams = [lambda number=number: iter([opened.append(number) or number]) for number in range(3)]
    chained = chain_ahead(streams, 0, ahead=9, head=9)
    assert (next(chained), opened) == (0, [0])


def test_who_wants_no_more_does_not_wait_for_what_has_begun() -> None:
    stopped = threading.Event()

    def work(number: int) -> int:
        if number:
            assert stopped.wait(60)
        return number

    results = prefetch(work, range(9), threads=2, ahead=4, stop=stopped.set)
    assert next(results) == 0
    results.close()
    assert stopped.is_set()
