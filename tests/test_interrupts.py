import os
import signal
from collections.abc import Iterator

import pytest

from pfit_ray.interrupts import Terminated, terminate_as_interrupt


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_sigterm_is_an_interrupt_that_can_be_told_apart() -> None:
    terminate_as_interrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(caught.value, Terminated)
