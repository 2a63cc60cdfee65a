"""Repeat what failed for a passing reason: which reasons pass, how long to wait, how often it happened."""

import errno
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pfit_ray.config.storage import StorageConfig

T = TypeVar("T")

LONGEST_WAIT = 30.0
"""Most seconds between two tries."""

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_PASSING_CODES = {
    "BandwidthLimitExceeded", "InternalError", "PriorRequestNotComplete", "RequestLimitExceeded", "RequestThrottled",
    "RequestTimeout", "RequestTimeoutException", "ServerBusy", "ServiceUnavailable", "SlowDown", "Throttling",
    "ThrottlingException", "TooManyRequests", "TooManyRequestsException", "OperationTimedOut",
}  # fmt: skip
_PASSING_CLASSES = {
    "ChunkedEncodingError", "ClientConnectionError", "ClientPayloadError", "ConnectionError", "HTTPClientError",
    "IncompleteRead", "IncompleteReadError", "ProxyError", "ResponseParserError", "ServiceRequestError",
    "ServiceResponseError", "Timeout", "TimeoutError",
}  # fmt: skip
"""Names of errors of botocore, aiohttp, requests and azure-core, or of their base classes."""
_PASSING_ERRNO = {
    errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EBUSY, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ECONNRESET,
    errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE, errno.EHOSTUNREACH, errno.ENETUNREACH,
}  # fmt: skip
_SETTLED = "_pfit_ray_settled"

_random = random.SystemRandom()  # forked workers must not wait in step
_lock = threading.Lock()
_count = 0


def retries() -> int:
    """How many storage requests this process has repeated so far."""
    return _count


def wait_before(attempt: int, options: StorageConfig) -> float:
    """Seconds to wait after the n-th try (1, 2, ...) has failed; counts the repetition."""
    global _count
    with _lock:
        _count += 1
    longest = min(LONGEST_WAIT, options.backoff_seconds * 2 ** (attempt - 1))
    return _random.uniform(longest / 2, longest)


def patiently(action: Callable[[], T], options: StorageConfig) -> T:
    """Do something with storage; repeat it while it fails for a passing reason and tries are left."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return action()
        except Exception as error:
            if attempt > options.retries or is_settled(error) or not is_passing(error):
                raise
        time.sleep(wait_before(attempt, options))


def settle(error: BaseException) -> None:
    """Mark an error whose request a lower level has tried often enough."""
    setattr(error, _SETTLED, True)


def is_settled(error: BaseException) -> bool:
    """Whether an error, or what caused it, has been marked, or is an answer that botocore has given up on."""
    return any(getattr(one, _SETTLED, isinstance(getattr(one, "response", None), dict)) for one in _chain(error))


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone in a moment: overload, a reset connection, a time-out."""
    for one in _chain(error):
        status, code = http_answer(one)
        if status is not None or code is not None:
            return is_passing_answer(status, code)
    for one in _chain(error):
        if any(base.__name__ in _PASSING_CLASSES for base in type(one).__mro__):
            return True
        if isinstance(one, OSError) and one.errno in _PASSING_ERRNO:
            return True
    return False


def timed_out(error: BaseException) -> bool:
    """Whether an error is a time-out."""
    return any("Timeout" in base.__name__ for one in _chain(error) for base in type(one).__mro__)


def http_answer(error: BaseException) -> tuple[int | None, str | None]:
    """HTTP status and error code that a driver's exception carries, where it carries them."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return parsed_answer(response)
    if any(base.__name__ == "HttpProcessingError" for base in type(error).__mro__):
        return None, None  # aiohttp on an answer cut off: its code is no server's
    for name in ("status_code", "status", "code"):  # azure-core, aiohttp, gcsfs
        value: Any = getattr(error, name, None)
        if isinstance(value, int | str) and str(value).isdigit():
            return int(value), getattr(error, "error_code", None)
    return None, None


def parsed_answer(response: dict[str, Any]) -> tuple[int | None, str | None]:
    """HTTP status and error code of an answer as botocore parses it."""
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode"), response.get("Error", {}).get("Code")


def is_passing_answer(status: int | None, code: str | None) -> bool:
    """Whether a server that answers so may answer otherwise in a moment."""
    return status in _PASSING_STATUS or code in _PASSING_CODES


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it."""
    one: BaseException | None = error
    for _ in range(8):
        if one is None:
            return
        yield one
        one = one.__cause__
