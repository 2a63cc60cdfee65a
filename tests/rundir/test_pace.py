import pytest

from pfit_ray.rundir.pace import describe_duration, describe_left, describe_rate, describe_records, recent_rate


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.0, "0.00 images/s"), (0.02, "1.20 images/min"), (0.05, "0.05 images/s"), (12, "12.00 images/s")],
)
def test_rates(rate: float, words: str) -> None:
    assert describe_rate(rate) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5_900, "98 min"),
        (7_200, "2 h"),
        (170_000, "47 h"),
        (400_000, "5 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert describe_duration(seconds) == words
    assert describe_left(seconds) == f"about {words} left"


@pytest.mark.parametrize(
    ("finished", "rate"),
    [
        ([], None),
        ([(5.0, 3)], None),
        ([(5.0, 3), (5.0, 4)], None),
        ([(0.0, 3), (6.0, 2), (4.0, 4)], 1.0),
        # What was done before a night's pause does not count, unless there is nothing else.
        ([(0.0, 100), (50_000.0, 1), (50_010.0, 5)], 0.5),
        ([(0.0, 100), (50_000.0, 100)], 0.002),
    ],
)
def test_the_rate_is_that_of_late(finished: list[tuple[float, int]], rate: float | None) -> None:
    assert recent_rate(finished) == rate


STEP = {"epoch": 1, "loss": 0.51234, "images": 8, "seconds": 2.0}


def test_the_time_that_is_left_follows_from_the_seconds_of_a_step() -> None:
    records = [{**STEP, "step": step, "max_step": 400} for step in (10, 20)]
    assert describe_records(records) == "epoch 1, step 20 of 400, loss 0.5123, 4.0 images/s, about 76 s left"


def test_only_the_last_records_count() -> None:
    slow = [{**STEP, "step": 10 * number, "max_step": 1000, "seconds": 1000.0} for number in range(1, 5)]
    fast = [{**STEP, "step": 40 + 10 * number, "max_step": 1000, "seconds": 1.0} for number in range(1, 21)]
    assert describe_records(slow + fast).endswith("step 240 of 1000, loss 0.5123, 8.0 images/s, about 76 s left")


def test_the_end_and_records_of_an_older_version() -> None:
    assert describe_records([{**STEP, "step": 4, "max_step": 4}]) == "epoch 1, step 4 of 4, loss 0.5123, 4.0 images/s"
    assert describe_records([{**STEP, "step": 4}]) == "epoch 1, step 4, loss 0.5123, 4.0 images/s"
