import errno
from types import SimpleNamespace
from typing import Any

import pytest

from pfit_ray.config.storage import StorageConfig
from pfit_ray.storage import retry
from pfit_ray.storage.retry import is_passing, is_settled, patiently, settle, timed_out, wait_before


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def named(name: str, **attributes: Any) -> Exception:
    """An error as a driver raises it that is not imported here."""
    return type(name, (Exception,), attributes)("text")


def answer(status: int, code: str) -> Exception:
    """An error with an answer, like botocore's."""
    return named("ClientError", response={"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}})


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(errno.ESTALE, "stale"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (FileNotFoundError(errno.ENOENT, "none"), False),
        (PermissionError("no"), False),
        (ValueError("odd"), False),
        (named("ClientPayloadError"), True),
        (named("HttpResponseError", status_code=503), True),
        (named("HttpResponseError", status_code=403), False),
        (named("HttpError", code="429"), True),
        (named("HttpError", code=400), False),
        (caused(OSError(errno.EIO, "what?"), answer(400, "NoSuchThing")), False),
        (caused(OSError(errno.EIO, "what?"), answer(400, "RequestTimeout")), True),
        (caused(OSError(errno.EBUSY, "busy"), answer(503, "SlowDown")), True),
        (caused(named("ClientPayloadError"), named("HttpProcessingError", code=400)), True),
    ],
)
def test_what_passes(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing


def test_time_outs() -> None:
    assert timed_out(TimeoutError())
    assert timed_out(caused(OSError("x"), named("ReadTimeoutError")))
    assert not timed_out(ConnectionResetError())


def test_what_was_repeated_further_down_is_settled() -> None:
    error = ConnectionResetError()
    assert not is_settled(error)
    settle(error)
    assert is_settled(caused(OSError(), error))
    assert is_settled(caused(OSError(), answer(503, "SlowDown")))


def test_waits_double_up_to_a_bound_with_jitter() -> None:
    options = StorageConfig(backoff_seconds=1.0)
    for attempt, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (9, 30.0)):
        waits = [wait_before(attempt, options) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


@pytest.mark.parametrize(("retries", "failures", "calls"), [(2, 2, 3), (2, 9, 3), (0, 1, 1)])
def test_tries_are_bounded_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, retries: int, failures: int, calls: int
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=waited.append))
    done = 0

    def act() -> str:
        nonlocal done
        done += 1
        if done <= failures:
            raise ConnectionResetError
        return "done"

    options = StorageConfig(retries=retries, backoff_seconds=1.0)
    if failures > retries:
        with pytest.raises(ConnectionResetError):
            patiently(act, options)
    else:
        assert patiently(act, options) == "done"
    assert done == calls
    assert len(waited) == calls - 1
