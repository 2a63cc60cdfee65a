import numpy as np
import pytest
import torch
from torch import Tensor

from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.config.stages import CamConfig
from pfit_ray.constants import Row
from pfit_ray.errors import RowError, UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.cam import CamStage


class Eyes:
    """A network of three classes whose maps are the image's colours, and which notes what it sees."""

    score_side: int | None = None

    def __init__(self, scores: tuple[float, ...] = (0.9, 0.2, 0.6)) -> None:
        self.scores = torch.tensor(scores)
        self.seen: list[tuple[int, ...]] = []

    def maps_and_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(tuple(x.shape))
        return x, self.scores.expand(len(x), -1)


def stage(network: object, config: CamConfig, **predicted: object) -> CamStage:
    result = CamStage("unused", config, PredictedLabelsConfig.model_validate(predicted), ("red", "green", "blue"))
    vars(result).update(device=torch.device("cpu"), network=network, mean=(0.0,) * 3, std=(1.0,) * 3)
    return result


def one_pixel_row(keys: list[int] | None) -> dict:
    return {"image": np.array([[[255, 51, 0]]], dtype=np.uint8), "keys": keys}


def test_maps_are_those_of_the_keys() -> None:
    row = one_pixel_row([1, 2])
    stage(Eyes(), CamConfig(scales=(1.0,))).process(row)
    assert row["keys"] == [1, 2]
    assert (row["labels_predicted"], row["label_scores"]) == (False, None)
    assert row["key_scores"] == pytest.approx([0.9, 0.2])
    np.testing.assert_allclose(row["cam_maps"][0], [[[2.0]], [[0.4]]], rtol=1e-6)  # image plus mirror image
    np.testing.assert_allclose(row["cam"], [[[1.0]], [[1.0]]], rtol=1e-4)
    assert row["cam"].dtype == np.float32


def test_scales_flip_and_the_strided_grid() -> None:
    network = Eyes()
    image = np.zeros((6, 9, 3), dtype=np.uint8)
    image[0, 0, 0] = 255
    row = {"image": image, "keys": [1]}
    stage(network, CamConfig(scales=(0.5, 2.0))).process(row)
    assert network.seen == [(2, 3, 3, 4), (2, 3, 12, 18)]
    assert [one.shape for one in row["cam_maps"]] == [(1, 3, 4), (1, 12, 18)]
    assert row["cam"].shape == (1, 2, 3)
    assert row["cam"].argmax() == 0  # the red corner; its mirror image was mirrored back


def test_without_flip_the_network_sees_one_image() -> None:
    network = Eyes()
    stage(network, CamConfig(scales=(1.0,), flip=False)).process(one_pixel_row([1]))
    assert network.seen == [(1, 3, 1, 1)]


def test_large_scales_are_shrunk() -> None:
    network = Eyes()
    row = {"image": np.zeros((20, 40, 3), dtype=np.uint8), "keys": [1]}
    stage(network, CamConfig(scales=(0.5, 2.0), max_side=32)).process(row)
    assert network.seen == [(2, 3, 10, 20), (2, 3, 16, 32)]


def test_no_class() -> None:
    row = {"image": np.zeros((6, 9, 3), dtype=np.uint8), "keys": []}
    stage(Eyes(), CamConfig(scales=(1.0,))).process(row)
    assert (row["keys"], row["key_scores"], row["labels_predicted"]) == ([], [], False)
    assert row["cam_maps"][0].shape == (0, 6, 9)
    assert row["cam"].shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("predicted", "keys"),
    [
        ({"threshold": 0.5}, [1, 3]),
        ({"threshold": 0.0}, [1, 2, 3]),
        ({"threshold": 0.1, "top_k": 1}, [1]),
        ({"threshold": 0.1, "top_k": 2}, [1, 3]),
        ({"threshold": 0.95}, []),
        ({"threshold": 0.95, "class_thresholds": {"green": 0.2}}, [2]),
        ({"threshold": 0.5, "class_thresholds": {"red": 0.91, "blue": 0.61}}, []),
        ({"threshold": 0.1, "top_k": 1, "class_thresholds": {"red": 0.91}}, []),
    ],
)
def test_labels_are_predicted_where_none_are_known(predicted: dict, keys: list[int]) -> None:
    row = one_pixel_row(None)
    stage(Eyes(), CamConfig(scales=(1.0,)), **predicted).process(row)
    assert row["labels_predicted"] is True
    assert row["keys"] == keys
    assert row["cam"].shape == (len(keys), 1, 1)
    assert row["label_scores"] == pytest.approx([0.9, 0.2, 0.6])


@pytest.mark.parametrize(("empty", "reason"), [("fail", "no_label"), ("skip", "skipped")])
def test_an_image_without_any_class_can_be_refused_or_skipped(empty: str, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        stage(Eyes(), CamConfig(scales=(1.0,)), threshold=0.95, empty=empty).process(one_pixel_row(None))
    assert (caught.value.reason, caught.value.message) == (
        reason,
        "no class reaches its threshold; the best, class 1, has 0.900 of 0.95",
    )


def test_scores_are_read_at_the_scale_nearest_to_one() -> None:
    class Sized(Eyes):
        def maps_and_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, torch.full((len(x), 3), float(x.shape[-1]))

    row = {"image": np.zeros((10, 10, 3), dtype=np.uint8), "keys": [2]}
    stage(Sized(), CamConfig(scales=(2.0, 1.5, 0.5))).process(row)
    assert row["key_scores"] == [15.0]
    network = Sized()
    network.score_side = 7
    stage(network, CamConfig(scales=(2.0,))).process(row)
    assert row["key_scores"] == [7.0]


def test_nan_fails_the_row() -> None:
    class Broken(Eyes):
        def maps_and_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x * float("nan"), self.scores.expand(len(x), -1)

    with pytest.raises(RowError, match="the class activation map holds NaN or infinity"):
        stage(Broken(), CamConfig(scales=(1.0,))).process(one_pixel_row([1]))


def test_scores_that_are_not_finite_fail_the_row() -> None:
    with pytest.raises(RowError, match="the list of class scores holds NaN or infinity") as caught:
        stage(Eyes((0.9, float("nan"), 0.6)), CamConfig(scales=(1.0,))).process(one_pixel_row([1]))
    assert caught.value.reason == "non_finite"


def test_a_batch_gives_what_its_images_give_alone(run: RunDirectory, photo: np.ndarray) -> None:
    real = CamStage(run.weights("classifier"), CamConfig(scales=(0.5, 1.0)), PredictedLabelsConfig(), ("one", "two"))
    real.setup()
    images = [photo, photo[:, ::-1], np.roll(photo, 9, axis=1), 255 - photo]
    alone = [{"image": image, "keys": [1, 2]} for image in images]
    for row in alone:
        real.process(row)
    together = [{"image": image, "keys": [1, 2]} for image in images]
    assert real.process_batch(together) == [None] * 4
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one["cam"], other["cam"], atol=1e-5)
        np.testing.assert_allclose(one["key_scores"], other["key_scores"], atol=1e-5)


def test_a_trained_classifier_is_loaded(run: RunDirectory, photo: np.ndarray) -> None:
    real = CamStage(run.weights("classifier"), CamConfig(scales=(0.5, 1.0)), PredictedLabelsConfig(), ("one", "two"))
    real.setup()
    rows = [{"image": photo, "keys": [2]} for _ in range(2)]
    for row in rows:
        real.process(row)
    assert rows[0]["cam"].shape == (1, 8, 10)
    assert 0 <= rows[0]["cam"].min() <= rows[0]["cam"].max() <= 1
    np.testing.assert_array_equal(rows[0]["cam"], rows[1]["cam"])


def test_engines_give_the_same_maps_and_levels(run: RunDirectory, photo: np.ndarray) -> None:
    pytest.importorskip("onnxruntime")
    rows: list[Row] = []
    for engine in ("torch", "channels_last", "onnxruntime"):
        config = CamConfig(scales=(0.5, 1.0))
        real = CamStage(run.weights("classifier"), config, PredictedLabelsConfig(), ("one", "two"), (1, 2), engine)
        real.setup()
        rows.append({"image": photo, "keys": [1, 2]})
        real.process(rows[-1])
    plain = rows[0]
    for row in rows[1:]:
        assert list(row["levels"]) == [1, 2]
        for one, other in ((row["cam"], plain["cam"]), *((row["levels"][at], plain["levels"][at]) for at in (1, 2))):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * np.abs(other).max())


def test_missing_weights(run: RunDirectory) -> None:
    with pytest.raises(UserError, match="there are no weights"):
        CamStage(run.url("none.safetensors"), CamConfig(), PredictedLabelsConfig(), ("one", "two")).setup()
