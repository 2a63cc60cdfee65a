import io
import re
import threading
from typing import Any

import pytest
from rich.console import Console

from pfit_ray.cluster.resources import describe_use
from pfit_ray.runner import progress
from pfit_ray.runner.progress import Progress, State, StepProgress

TIMINGS = {"cam": {"images": 4, "failed": 1, "seconds": 6.0, "cpu_seconds": 8.0}}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now


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


def quiet(console: Console) -> Progress:
    return Progress(console, use=lambda: "")


def test_lines_are_printed_as_they_are(plain: Console) -> None:
    Progress(plain).say("train: [bold]5[/bold] images in /a/very/long/folder/that/does/not/fit/into/one/line")
    assert written(plain) == ["train: [bold]5[/bold] images in /a/very/long/folder/that/does/not/fit/into/one/line"]


def test_without_a_terminal_there_is_a_line_every_half_minute(plain: Console, clock: Clock) -> None:
    told = Progress(plain, use=lambda: "2 of 2 CPUs in use")
    step = StepProgress("seeds", 100, 20)
    told.tick(step, begins=True)
    clock.now += 10
    step.add(4, 0)
    told.tick(step)
    assert written(plain) == []
    clock.now += 20
    step.add(5, 1)
    for _ in range(3):
        told.tick(step)
    assert written(plain) == ["seeds: 30 of 100 images, 1 failed, 0.33 images/s, about 4 min left, 2 of 2 CPUs in use"]
    clock.now += 30  # nothing has moved, and it is said
    told.tick(step)
    assert written(plain)[1:] == [
        "seeds: 30 of 100 images, 1 failed, 0.17 images/s, about 7 min left, 2 of 2 CPUs in use"
    ]


def test_a_thread_says_it_while_the_step_waits(plain: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    states: list[State] = []
    twice = threading.Event()

    def publish(state: State) -> None:
        states.append(state)
        if len(states) == 2:
            twice.set()

    told = quiet(plain)
    told.publish = publish
    with told.images("seeds", total=9, done=3):
        assert twice.wait(30)
    assert states[0]["step"] == "seeds"
    assert written(plain)[0] == "seeds: 3 of 9 images, 0.00 images/s"
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_the_last_line_has_the_seconds(plain: Console, clock: Clock) -> None:
    with quiet(plain).images("seeds", total=40, done=20) as step:
        clock.now += 40
        step.add(20, 0)
    assert written(plain) == ["seeds: 40 of 40 images, 0.50 images/s, 40 s"]


def test_the_rate_counts_what_this_run_did(clock: Clock) -> None:
    step = StepProgress("labels", total=10, done=8)
    assert step.seconds_left is None
    clock.now += 4
    step.add(1, 0)
    assert (step.rate, step.seconds_left) == (0.25, 4.0)
    step.add(1, 0)
    assert step.line() == "labels: 10 of 10 images, 0.50 images/s"


def test_images_are_counted_while_they_are_listed(plain: Console, clock: Clock) -> None:
    told = quiet(plain)
    with told.listing("train") as step:
        for _ in step.each(range(900)):
            clock.now += 0.05
        told.tick(step)
    assert written(plain) == ["manifest train: 900 images listed, 20.00 images/s"]


def test_what_is_published_for_other_machines(plain: Console, clock: Clock) -> None:
    states: list[State] = []
    told = Progress(plain, use=lambda: "1 of 2 CPUs in use")
    told.publish = states.append
    step = StepProgress("seeds", 100)
    told.tick(step, begins=True)
    clock.now += 10
    step.add(3, 1, {"reasons": {"missing": 1}, "stages": TIMINGS})
    told.tick(step)
    clock.now += 20
    told.tick(step)
    assert [state["done"] for state in states] == [0, 4]
    assert states[1] == {
        "step": "seeds",
        "line": "seeds: 4 of 100 images, 1 failed, 0.13 images/s, about 12 min left",
        "done": 4,
        "total": 100,
        "failed": 1,
        "rate": pytest.approx(4 / 30),
        "seconds_left": pytest.approx(720),
        "use": "1 of 2 CPUs in use",
        "at": 1e9 + 1030,
    }


def test_a_training_says_itself_how_far_it_is(plain: Console, clock: Clock) -> None:
    told, seen = quiet(plain), ["", "epoch 2, loss 0.5"]
    step = StepProgress("deeplab", None, look=lambda: seen.pop(0))
    told.tick(step, begins=True)
    for _ in range(3):  # the last look raises, as when a storage does not answer
        clock.now += 30
        told.tick(step)
    assert written(plain) == [
        "deeplab: epoch 2, loss 0.5, 30 s so far",
        "deeplab: epoch 2, loss 0.5, 60 s so far",
        "deeplab: epoch 2, loss 0.5, 90 s so far",
    ]


def test_a_storage_or_cluster_that_fails_does_not_stop_the_work(plain: Console, clock: Clock) -> None:
    def fail(*_: Any) -> str:
        raise OSError("no space left")

    told = Progress(plain, use=fail)
    told.publish = fail
    with told.images("seeds", total=1, done=0) as step:
        step.add(1, 0)
        told.tick(step, begins=True)
    told.aside(fail)
    assert written(plain) == ["seeds: 1 of 1 images, 1000000000.00 images/s, 0 s"]


def test_an_interruption_passes_through(plain: Console) -> None:
    with pytest.raises(KeyboardInterrupt), Progress(plain).images("seeds", total=1, done=0):
        raise KeyboardInterrupt
    assert written(plain) == []


def test_a_terminal_gets_a_live_display_and_one_last_line() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, highlight=False)
    told = Progress(console, use=lambda: "2 of 2 CPUs, 1 of 1 GPUs in use")
    with told.images("seeds", total=8, done=0) as step:
        step.add(3, 1, {"reasons": {"unreadable": 1}, "stages": TIMINGS})
        told.tick(step, begins=True)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    assert re.search(r"seeds: 4 of 8 images, 1 failed, .* images/s, about \d+ s left", text)
    assert "2 of 2 CPUs, 1 of 1 GPUs in use" in text
    assert "failed: 1 unreadable" in text
    assert re.search(r"cam +4 +1 +1\.500 +2\.000", text)
    assert re.fullmatch(r"seeds: 4 of 8 images, 1 failed, .* left, 0 s", text.splitlines()[-1].strip())


def test_use_of_the_cluster(local_ray: None) -> None:
    assert re.fullmatch(r"[0-2](\.\d+)? of 2 CPUs in use", describe_use())
