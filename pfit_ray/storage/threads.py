"""Map a function in threads, in order, with a bounded number of results in advance."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    function: Callable[[T], R],
    arguments: Iterable[T],
    threads: int,
    ahead: int,
    stop: Callable[[], object] = lambda: None,
) -> Iterator[R]:
    """Results of `function` in the order of its arguments, computed by threads at most `ahead` in advance.

    When no more results are wanted, `stop` is called; then the calls that have begun are awaited.
    """
    if threads == 0:
        yield from map(function, arguments)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
    try:
        remaining = iter(arguments)
        pending: deque[Future[R]] = deque(pool.submit(function, one) for one in islice(remaining, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(function, one) for one in islice(remaining, 1))
            yield result
    finally:
        stop()
        pool.shutdown(cancel_futures=True)


def chain_ahead(streams: Iterable[Callable[[], Iterator[T]]], threads: int, ahead: int, head: int) -> Iterator[T]:
    """The items of several streams, one stream after another.

    Args:
        streams: functions that open a stream.
        threads: threads that open the next streams; with 0 each stream is opened in its turn.
        ahead: how many streams are opened in advance.
        head: how many first items of an opened stream are held; the others are read in its turn.
    """
    if threads == 0:
        for stream in streams:
            yield from stream()
        return

    def opened(stream: Callable[[], Iterator[T]]) -> tuple[list[T], Iterator[T]]:
        items = stream()
        return list(islice(items, head)), items

    for first, rest in prefetch(opened, streams, threads, ahead):
        yield from first
        yield from rest
