import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from pfit_ray.config.training import TrainingConfig
from pfit_ray.train.sample import sample

ROWS = [{"image_id": f"i{number}", "keys": [1 + (number % 50 == 7)], "score": number / 100} for number in range(100)]


def ids(rows: list[dict[str, Any]], seed: int = 0, **fields: Any) -> list[str]:
    chosen = sample(iter(rows), TrainingConfig(**fields), seed)
    return sorted(row["image_id"] for row, one in zip(rows, chosen, strict=True) if one)


@pytest.mark.parametrize(("wanted", "images"), [(0.25, 25), (7, 7), (100, 100), (1000, 100), (0.001, 1), (1, 1)])
def test_its_size(wanted: float, images: int) -> None:
    assert len(ids(ROWS, sample=wanted)) == images
    assert len(ids(ROWS, sample=wanted, sample_balance=True)) == images


@pytest.mark.parametrize("by", ["random", "score"])
@pytest.mark.parametrize("balance", [False, True])
def test_the_order_of_the_rows_does_not_matter(by: str, balance: bool) -> None:
    shuffled = random.Random(3).sample(ROWS, len(ROWS))
    fields = {"sample": 10, "sample_by": by, "sample_balance": balance}
    assert ids(shuffled, **fields) == ids(ROWS, **fields)


def test_another_seed_takes_others() -> None:
    assert ids(ROWS, sample=10) != ids(ROWS, seed=1, sample=10)


def test_a_larger_sample_holds_the_smaller_one() -> None:
    assert set(ids(ROWS, sample=10)) < set(ids(ROWS, sample=20))


def test_the_highest_scores() -> None:
    rows = [*ROWS, {"image_id": "none", "keys": [1], "score": float("nan")}]
    assert ids(rows, sample=3, sample_by="score") == ["i97", "i98", "i99"]
    assert "none" not in ids(rows, sample=100, sample_by="score")


def test_rare_classes_are_not_missed() -> None:
    assert {"i7", "i57"} <= set(ids(ROWS, sample=4, sample_balance=True))
    best = ids(ROWS, sample=3, sample_by="score", sample_balance=True)
    assert best == ["i57", "i98", "i99"]


def test_balance_against_turns_taken_one_by_one() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(200):
        keys = sorted(set(rng.geometric(0.4, size=rng.integers(0, 4)).tolist()))
        rows.append({"image_id": f"i{number}", "keys": keys, "score": float(rng.permutation(10**6)[0])})
    ranked = sorted(rows, key=lambda row: -row["score"])
    turns: dict[str, int] = {}
    seen: Counter[int] = Counter()
    for row in ranked:
        turns[row["image_id"]] = min(seen[key] for key in row["keys"] or [0])
        seen.update(row["keys"] or [0])
    expected = sorted(ranked, key=lambda row: turns[row["image_id"]])[:60]  # a stable sort: equal turns by score
    assert ids(rows, sample=60, sample_by="score", sample_balance=True) == sorted(row["image_id"] for row in expected)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"sample 2\.5 is a number of images"):
        TrainingConfig(sample=2.5)
