import io

import pytest
from rich.console import Console

from pfit_ray import progress
from pfit_ray.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    result = Clock()
    monkeypatch.setattr(progress, "time", result)
    return result


def written(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.fixture
def plain() -> Console:
    return Console(file=io.StringIO(), width=40, force_terminal=False, highlight=False)


def test_lines_are_printed_as_they_are(plain: Console) -> None:
    Progress(plain).say("train: [bold]5[/bold] images in /a/very/long/folder/that/does/not/fit/into/one/line")
    assert written(plain) == ["train: [bold]5[/bold] images in /a/very/long/folder/that/does/not/fit/into/one/line"]


def test_without_a_terminal_there_is_a_line_now_and_then(plain: Console, clock: Clock) -> None:
    with Progress(plain).images("seeds", total=100, done=20) as step:
        clock.now += 10
        step.add(4, 0)
        assert written(plain) == []
        clock.now += 20
        step.add(5, 1)
        assert written(plain) == ["seeds: 30 of 100 images, 1 failed, 0.33 images/s"]
        clock.now += 10
        step.add(10, 0)
    assert written(plain)[1:] == ["seeds: 40 of 100 images, 1 failed, 0.50 images/s, 40 s"]


def test_the_rate_counts_what_this_run_did(plain: Console, clock: Clock) -> None:
    with Progress(plain).images("labels", total=10, done=8) as step:
        clock.now += 4
        step.add(2, 0)
        assert step.line() == "labels: 10 of 10 images, 0.50 images/s"


def test_an_interruption_passes_through(plain: Console) -> None:
    with pytest.raises(KeyboardInterrupt), Progress(plain).images("seeds", total=1, done=0):
        raise KeyboardInterrupt
    assert written(plain) == []


def test_a_terminal_gets_bars_and_one_last_line() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, highlight=False)
    with Progress(console).images("seeds", total=3, done=0) as step:
        step.add(2, 1)
        assert step.bars is not None
        assert step.bars.tasks[0].completed == 3
        assert step.bars.tasks[0].fields["failed"] == 1
    assert "seeds: 3 of 3 images, 1 failed," in console.file.getvalue().splitlines()[-1]
