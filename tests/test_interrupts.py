import os
import signal
import threading
from contextlib import suppress

import pytest

from pfit_ray.interrupts import Terminated, sigterm_as_interrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_sigterm_is_an_interrupt_that_can_be_told_apart() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), sigterm_as_interrupt():
        terminate()
    assert issubclass(Terminated, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("other", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_another_exception_in_its_place_is_told_apart(other: type[BaseException]) -> None:
    def block() -> None:
        with sigterm_as_interrupt():
            try:
                terminate()
            except KeyboardInterrupt:
                raise other from None

    with pytest.raises(Terminated) as caught:
        block()
    assert isinstance(caught.value.__cause__, other)


def test_a_swallowed_sigterm_ends_the_block_all_the_same() -> None:
    with pytest.raises(Terminated), sigterm_as_interrupt(), suppress(KeyboardInterrupt):
        terminate()


def test_without_a_sigterm_exceptions_pass() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, sigterm_as_interrupt():
        raise KeyboardInterrupt
    assert not isinstance(caught.value, Terminated)


def test_a_handler_that_was_replaced_is_set_again() -> None:
    def block() -> None:
        with sigterm_as_interrupt() as handle_again:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            handle_again()
            terminate()

    with pytest.raises(Terminated):
        block()


def test_in_another_thread_nothing_happens() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def block() -> None:
        with sigterm_as_interrupt() as handle_again:
            handle_again()

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
