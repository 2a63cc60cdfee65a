import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pfit_ray.storage.signals import Terminated, interrupts

SIGNALS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@pytest.fixture(autouse=True)
def _heed_ctrl_c() -> Iterator[None]:
    """Also where the tests run in the background of a shell, which lets them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


both = pytest.mark.parametrize(("number", "raised"), SIGNALS.items())


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@both
def test_the_two_can_be_told_apart(number: signal.Signals, raised: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as caught, interrupts():
        send(number)
    assert caught.type is raised
    assert signal.getsignal(number) is before


@both
@pytest.mark.parametrize("other", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_another_exception_in_its_place_is_told_apart(
    number: signal.Signals, raised: type[BaseException], other: type[BaseException]
) -> None:
    def block() -> None:
        with interrupts():
            try:
                send(number)
            except KeyboardInterrupt:
                raise other from None

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert caught.type is raised
    assert other is raised or isinstance(caught.value.__cause__, other)


@both
def test_a_swallowed_signal_is_raised_at_the_next_check(number: signal.Signals, raised: type[BaseException]) -> None:
    class Swallows:
        def __del__(self) -> None:
            with suppress(KeyboardInterrupt):
                send(number)

    reached = []

    def block() -> None:
        with interrupts() as asked:
            asked.check()
            Swallows()
            reached.append("after")
            asked.check()
            reached.append("behind the check")

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert caught.type is raised
    assert reached == ["after"]


@both
def test_a_swallowed_signal_ends_the_block_all_the_same(number: signal.Signals, raised: type[BaseException]) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, interrupts(), suppress(KeyboardInterrupt):
        send(number)
    assert caught.type is raised


def test_the_first_signal_counts() -> None:
    def block() -> None:
        with interrupts(), suppress(KeyboardInterrupt):
            try:
                send(signal.SIGINT)
            finally:
                send(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt) as caught:
        block()
    assert caught.type is KeyboardInterrupt


def test_without_a_signal_exceptions_pass() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, interrupts():
        raise KeyboardInterrupt
    assert caught.type is KeyboardInterrupt
    with pytest.raises(RuntimeError), interrupts():
        raise RuntimeError


@both
def test_a_handler_that_was_replaced_is_set_again(number: signal.Signals, raised: type[BaseException]) -> None:
    def block() -> None:
        with interrupts() as asked:
            signal.signal(number, lambda *_: None)
            asked.handle()
            send(number)

    with pytest.raises(raised):
        block()


def test_an_ignored_sigint_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts():
            send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_python_does_not_know_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        with interrupts():
            pass
    try:
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_DFL}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_in_another_thread_nothing_happens() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def block() -> None:
        with interrupts() as asked:
            asked.handle()

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
