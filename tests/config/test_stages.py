import pytest
from pydantic import ValidationError

from pfit_ray.config import stages


def test_published_numbers_are_the_defaults() -> None:
    assert stages.CamConfig().scales == (0.5, 1.0, 1.5, 2.0)
    assert stages.SlicConfig().model_dump() == {"n_segments": 1000, "compactness": 15.0, "sigma": 1.0}
    assert stages.QuickshiftConfig().model_dump() == {"kernel_size": 3.0, "max_dist": 6.0, "ratio": 0.29, "seed": 42}
    assert stages.UssConfig().model_dump(exclude={"max_side", "fused"}) == {
        "seed": 43,
        "max_iterations": 64,
        "min_labels": 20,
        "learning_rate": 0.05,
        "momentum": 0.9,
    }
    assert (stages.FitConfig().slic_cam_threshold, stages.FitConfig().quickshift_cam_threshold) == (0.05, 0.0)
    label = stages.AffinityLabelConfig()
    assert (label.thresholds("fit"), label.crf.iterations) == ((0.6, 0.4), 10)
    walk = stages.WalkConfig()
    assert (walk.source, walk.beta, walk.exp_times, walk.radius) == ("cam", 10.0, 8, 5)
    pseudo = stages.PseudoLabelConfig()
    assert (pseudo.threshold, pseudo.crf.iterations, pseudo.crf.gt_prob) == (0.35, 1, 0.7)
    assert stages.PredictConfig().crf.model_dump() == {
        "iterations": 10,
        "gaussian_sxy": 3.0,
        "gaussian_compat": 3.0,
        "bilateral_sxy": 80.0,
        "bilateral_srgb": 13.0,
        "bilateral_compat": 10.0,
    }


def test_a_crf_given_in_part_keeps_the_iterations_of_its_stage() -> None:
    pseudo = stages.PseudoLabelConfig.model_validate({"crf": {"gt_prob": 0.9}})
    assert (pseudo.crf.iterations, pseudo.crf.gt_prob) == (1, 0.9)


def test_sure_background_must_not_be_above_sure_foreground() -> None:
    with pytest.raises(ValidationError, match=r"bg_threshold 0.7 is above fg_threshold 0.6"):
        stages.AffinityLabelConfig(bg_threshold=0.7, fg_threshold=0.6)
    with pytest.raises(ValueError, match=r"bg_threshold 0.7 is above fg_threshold 0.6"):
        stages.AffinityLabelConfig(bg_threshold=0.7).thresholds("fit")
    assert stages.AffinityLabelConfig(bg_threshold=0.6).thresholds("fit") == (0.6, 0.6)


@pytest.mark.parametrize("mode", stages.AFFINITY_THRESHOLDS)
def test_every_mode_has_thresholds_of_its_own(mode: stages.CombineMode) -> None:
    foreground, background = stages.AffinityLabelConfig().thresholds(mode)
    assert 0 < background < foreground < 2
    assert stages.AffinityLabelConfig(fg_threshold=1.5).thresholds(mode) == (1.5, background)


@pytest.mark.parametrize(
    ("section", "given"),
    [
        (stages.CamConfig, {"scales": []}),
        (stages.CamConfig, {"scales": [0.0]}),
        (stages.CamConfig, {"scales": [9.0]}),
        (stages.CamConfig, {"max_side": 31}),
        (stages.CamConfig, {"stored_as": "int8"}),
        (stages.QuickshiftConfig, {"kernel_size": 0.5}),
        (stages.UssConfig, {"min_labels": 33}),
        (stages.UssConfig, {"momentum": 1.0}),
        (stages.PublishedFitConfig, {"blur": 33}),
        (stages.FitConfig, {"slic_cam_threshold": 1.0}),
        (stages.LabelCrfConfig, {"gt_prob": 1.0}),
        (stages.LabelCrfConfig, {"gaussian_sxy": 0.0}),
        (stages.WalkConfig, {"beta": 0.0}),
        (stages.WalkConfig, {"exp_times": 13}),
        (stages.WalkConfig, {"radius": 1}),
        (stages.WalkConfig, {"source": "edge"}),
        (stages.PseudoLabelConfig, {"threshold": -0.1}),
        (stages.PredictConfig, {"label_floor": 1.0}),
        (stages.EvaluateConfig, {"threshold_step": 0.0}),
    ],
)
def test_out_of_range(section: type, given: dict) -> None:
    with pytest.raises(ValidationError) as caught:
        section.model_validate(given)
    assert caught.value.errors()[0]["loc"][0] == next(iter(given))
