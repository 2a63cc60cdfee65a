from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.data.cam_sources import CamMaps, CamSource
from pfit_ray.errors import RowError
from pfit_ray.tasks.cam_source import CamSourceStage

IMAGE = np.zeros((6, 9, 3), dtype=np.uint8)
MAPS = np.array([[[0.0, 2.0]], [[-1.0, 4.0]], [[0.0, 0.0]]])


class Given(CamSource):
    """Gives what the test says, and notes what it was asked."""

    def __init__(self, *given: Any) -> None:
        self.given = CamMaps(*given)
        self.asked: list[Any] = []

    def cam(self, image: np.ndarray, image_id: str, keys: Sequence[int] | None) -> CamMaps:
        self.asked.append((image.shape, image_id, keys))
        return self.given


def processed(source: CamSource, keys: list[int] | None, **predicted: Any) -> dict:
    row = {"image_id": "a", "image": IMAGE, "keys": keys}
    CamSourceStage(source, PredictedLabelsConfig.model_validate(predicted), 20).process(row)
    return row


def test_the_classes_of_the_label_in_its_order() -> None:
    source = Given([7, 3, 9], MAPS, [0.1, 0.2, 0.3])
    row = processed(source, [3, 7])
    assert source.asked == [((6, 9, 3), "a", [3, 7])]
    assert (row["keys"], row["labels_predicted"], row["label_scores"]) == ([3, 7], False, None)
    assert row["key_scores"] == [0.2, 0.1]
    np.testing.assert_array_equal(row["cam_maps"][0], [[[0, 4]], [[0, 2]]])
    assert row["cam"].shape == (2, 2, 3)
    assert row["cam"].dtype == np.float32
    np.testing.assert_allclose(row["cam"].max(axis=(1, 2)), 1, atol=1e-4)


def test_without_a_label_the_classes_of_the_source_are_the_label() -> None:
    row = processed(Given([7, 3, 9], MAPS), None)
    assert (row["keys"], row["labels_predicted"], row["key_scores"]) == ([3, 7, 9], True, None)


def test_no_class() -> None:
    for keys in ([], None):
        row = processed(Given([], np.zeros((0, 2, 2))), keys)
        assert row["keys"] == []
        assert row["cam"].shape == (0, 2, 3)


@pytest.mark.parametrize(("empty", "reason"), [("fail", "no_label"), ("skip", "skipped")])
def test_an_image_without_any_class_can_be_refused_or_skipped(empty: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        processed(Given([], np.zeros((0, 2, 2))), None, empty=empty)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([7], MAPS[:1]), "the source has no map of class 3, only of .7."),
        (([3], MAPS), "maps of shape .3, 1, 2. for 1 classes"),
        (([3], MAPS[0]), "maps of shape .1, 2. for 1 classes"),
        (([3], np.zeros((1, 0, 2))), "maps of shape .1, 0, 2. for 1 classes"),
        (([3, 3], MAPS[:2]), "each id is once in 1..20"),
        (([3, 21], MAPS[:2]), "each id is once in 1..20"),
        (([3], MAPS[:1], [0.1, 0.2]), "2 scores for 1 classes"),
    ],
)
def test_maps_that_cannot_be_used_fail_the_row(given: tuple, message: str) -> None:
    with pytest.raises(RowError, match=message) as caught:
        processed(Given(*given), [3])
    assert caught.value.reason == "bad_cam"


def test_nan_fails_the_row() -> None:
    with pytest.raises(RowError) as caught:
        processed(Given([3], MAPS[:1] * np.nan), [3])
    assert caught.value.reason == "non_finite"


class Together(Given):
    """Takes images together, unless one is dark."""

    def cam_batch(self, images: Any, image_ids: Any, keys: Any) -> list[CamMaps]:
        if not all(image.any() for image in images):
            raise ValueError("too dark")
        self.asked.append(("together", list(image_ids), list(keys)))
        return [self.given] * len(images)


def test_images_of_a_batch_go_together_and_alone_where_one_cannot() -> None:
    bright = np.ones_like(IMAGE)
    rows: list[dict] = [
        {"image_id": "a", "image": bright, "keys": [3]},
        {"image_id": "b", "image": bright, "keys": []},
        {"image_id": "c", "image": bright, "keys": [7, 8]},
        {"image_id": "d", "image": bright, "keys": None},
    ]
    source = Together([7, 3, 9], MAPS)
    outcomes = CamSourceStage(source, PredictedLabelsConfig(), 20).process_batch([dict(row) for row in rows])
    assert source.asked == [("together", ["a", "c", "d"], [[3], [7, 8], None])]
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), RowError, type(None)]
    source = Together([7, 3, 9], MAPS)
    rows[0]["image"] = IMAGE
    CamSourceStage(source, PredictedLabelsConfig(), 20).process_batch(rows)
    assert [asked[1] for asked in source.asked] == ["a", "c", "d"]
    assert (rows[0]["keys"], rows[3]["keys"]) == ([3], [3, 7, 9])
