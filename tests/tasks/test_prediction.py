import numpy as np
import pytest

from pfit_ray.config.stages import PredictConfig
from pfit_ray.tasks.encode import compressed_array
from pfit_ray.tasks.prediction import PredictionStage

NO_CRF = PredictConfig.model_validate({"crf": {"iterations": 0}})


def row(probabilities: list, label_ids: list[int]) -> dict:
    values = np.array(probabilities, dtype=np.float32)
    image = np.full((*values.shape[1:], 3), 90, np.uint8)
    return {"image": image, "probabilities": compressed_array(values), "label_ids": label_ids}


def test_label_and_scores() -> None:
    result = row([[[0.1, 0.5, 0.6, 0.1]], [[0.7, 0.3, 0.1, 0.1]], [[0.2, 0.2, 0.3, 0.8]]], [0, 4, 9])
    PredictionStage(NO_CRF).process(result)
    assert result["prediction"].tolist() == [[4, 0, 0, 9]]
    assert result["prediction"].dtype == np.uint8
    assert result["keys"] == [4, 9]
    assert result["margin"] == pytest.approx((0.5 + 0.2 + 0.3 + 0.7) / 4)
    assert (result["foreground_share"], result["crf_change"]) == (0.5, 0.0)


def test_background_alone() -> None:
    for config in (NO_CRF, PredictConfig()):
        result = row([[[0.4]]], [0])
        PredictionStage(config).process(result)
        assert result["prediction"].tolist() == [[0]]
        assert (result["keys"], result["margin"], result["crf_change"]) == ([], 1.0, 0.0)


def test_the_crf_smooths() -> None:
    foreground = np.full((9, 9), 0.1)
    foreground[4, 4] = 0.6
    result = row([1 - foreground, foreground], [0, 5])
    PredictionStage(PredictConfig()).process(result)
    assert not result["prediction"].any()
    assert result["keys"] == []
    assert result["crf_change"] == pytest.approx(1 / 81)


@pytest.mark.parametrize("config", [NO_CRF, PredictConfig()])
def test_smaller_probabilities_are_enlarged_to_the_image(config: PredictConfig) -> None:
    left = np.repeat([[0.9, 0.8, 0.2, 0.1]], 4, axis=0)
    result = row([left, 1 - left], [0, 6])
    result["image"] = np.zeros((8, 8, 3), np.uint8)
    result["image"][:, 4:] = 200
    PredictionStage(config).process(result)
    assert result["prediction"].tolist() == [[0] * 4 + [6] * 4] * 8
    assert (result["keys"], result["foreground_share"], result["crf_change"]) == ([6], 0.5, 0.0)
