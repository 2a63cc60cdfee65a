"""Map a function in threads, a bounded number of results ahead and in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(function: Callable[[T], R], arguments: Iterable[T], threads: int, ahead: int) -> Iterator[R]:
    """Results of `function` in the order of its arguments, computed by threads at most `ahead` in advance."""
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
        pool.shutdown(cancel_futures=True)
