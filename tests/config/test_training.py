import pytest
from pydantic import ValidationError

from pfit_ray.config.training import AffinityNetConfig, ClassifierConfig, DeepLabConfig, TrainingConfig


def test_a_training_given_in_part_keeps_the_numbers_of_its_network() -> None:
    deeplab = DeepLabConfig.model_validate({"train": {"epochs": 2}}).train
    assert (deeplab.epochs, deeplab.learning_rate, deeplab.weight_decay) == (2, 0.0007, 4e-5)
    assert (deeplab.min_side, deeplab.max_side) == (256, 1024)
    affinitynet = AffinityNetConfig.model_validate({"train": {"crop": 256}}).train
    assert (affinitynet.epochs, affinitynet.crop) == (3, 256)
    assert (affinitynet.new_layer_factor, affinitynet.bias_factor) == (1.0, 1.0)
    classifier = ClassifierConfig.model_validate({"train": {"crop": 256}}).train
    assert (classifier.epochs, classifier.batch_size, classifier.new_layer_factor) == (15, 32, 10.0)


@pytest.mark.parametrize("section", [ClassifierConfig, AffinityNetConfig, DeepLabConfig])
def test_source_weights_needs_a_file(section: type) -> None:
    with pytest.raises(ValidationError, match=r"needs \w+.weights, the URL of a .safetensors or .pth file"):
        section.model_validate({"source": "weights"})
    assert section.model_validate({"source": "weights", "weights": "a.safetensors"}).weights == "a.safetensors"


def test_source_zero_shot_takes_numbers_and_names_alone_or_several() -> None:
    assert ClassifierConfig(source="zero_shot").zero_shot is None
    sets = {"cat": [281, "Persian cat"], "cup": "coffee mug", "rocket": 657}
    given = ClassifierConfig.model_validate({"source": "zero_shot", "zero_shot": sets})
    assert given.zero_shot == {"cat": (281, "Persian cat"), "cup": ("coffee mug",), "rocket": (657,)}
    with pytest.raises(ValidationError, match="zero_shot"):
        ClassifierConfig.model_validate({"zero_shot": ["cat"]})


def test_sides() -> None:
    with pytest.raises(ValidationError, match="min_side 700 is above max_side 640"):
        TrainingConfig(min_side=700)


@pytest.mark.parametrize(
    "given",
    [{"epochs": 0}, {"batch_size": 0}, {"crop": 100}, {"crop": 0}, {"learning_rate": 0}, {"momentum": 1.0},
     {"accumulate": 0}, {"optimiser": "adam"}, {"precision": "int8"}, {"min_score": 1.5}, {"score": "beauty"},
     {"drop_worst": 1.0}, {"drop_worst": -0.1}],
)  # fmt: skip
def test_out_of_range(given: dict) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingConfig.model_validate(given)
    assert caught.value.errors()[0]["loc"] == (next(iter(given)),)


def test_puzzle_pieces_need_a_crop_that_can_be_halved() -> None:
    with pytest.raises(ValidationError, match=r"train.crop 272 must be a multiple of 32 for the Puzzle loss"):
        ClassifierConfig.model_validate({"train": {"crop": 272}})
    plain = ClassifierConfig.model_validate({"train": {"crop": 272}, "puzzle": {"enabled": False}})
    assert plain.train.crop == 272


def test_affinitynet_needs_room_for_its_pairs() -> None:
    with pytest.raises(ValidationError, match=r"train.crop 64 is too small for radius 10.*at least 76"):
        AffinityNetConfig.model_validate({"train": {"crop": 64}})
    assert AffinityNetConfig.model_validate({"train": {"crop": 80}}).train.crop == 80


@pytest.mark.parametrize("given", [{"min_score": 0.5}, {"drop_worst": 0.1}, {"sample": 9, "sample_by": "score"}])
def test_no_image_has_a_score_before_pass_1(given: dict) -> None:
    with pytest.raises(ValidationError, match="scores that none has before pass 1"):
        ClassifierConfig.model_validate({"train": given})
    assert AffinityNetConfig.model_validate({"train": given}).train.score == "mask_agreement"


def test_a_score_must_exist_before_the_training() -> None:
    with pytest.raises(ValidationError, match="'walk_margin' is a score of pass labels, which comes after"):
        AffinityNetConfig.model_validate({"train": {"score": "walk_margin"}})
    assert DeepLabConfig.model_validate({"train": {"score": "walk_margin"}}).train.score == "walk_margin"
