from pfit_ray.train.records import describe_records

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
