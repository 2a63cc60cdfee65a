import pytest

from pfit_ray.config import RunConfig
from pfit_ray.config.load import load_config
from pfit_ray.constants import VOC_CLASSES
from pfit_ray.data.sources.detect import Found
from pfit_ray.errors import UserError
from pfit_ray.runner.starter import Machine, starter_config

LAPTOP, NODE = Machine(gpu=False, package=True), Machine(gpu=True, package=True)


def made(found: Found, *classes: str, machine: Machine = LAPTOP) -> RunConfig:
    text = starter_config(found, "photos", classes, "runs/photos", machine)
    assert text.startswith("# Made by pfit-ray init")
    return load_config("photos.yaml", read=lambda _: text.encode())


def test_few_labelled_images_of_imagenet_classes_need_no_training() -> None:
    config = made(Found("class_folders", 12, ("cat", "dog"), True))
    assert (config.data.source, config.data.classes, config.shard_size) == ("class_folders", ("cat", "dog"), 1)
    assert config.classifier.source == "zero_shot"
    assert config.deeplab.backbone.weights == "package"


def test_many_labelled_images_or_other_classes_train_a_classifier() -> None:
    assert made(Found("class_folders", 5000, ("cat", "dog"), True)).classifier.source == "train"
    assert made(Found("folder", 12, ("yes", "flumph"), True, {"labels": "a.csv"})).data.classes == ("yes", "flumph")


def test_epochs_fall_and_shards_grow_with_the_images() -> None:
    sizes = [made(Found("class_folders", count, ("cat", "dog"), True)) for count in (4, 100, 3000, 100_000)]
    assert [config.shard_size for config in sizes] == [1, 4, 16, 64]
    epochs = [config.deeplab.train.epochs for config in sizes]
    assert epochs == sorted(epochs, reverse=True)
    assert (epochs[0], epochs[-1]) == (100, 1)
    assert [config.walk.exp_times for config in sizes] == [6, 6, 8, 8]


def test_a_few_images_take_minutes_on_a_cpu() -> None:
    """Few crops, whose features are computed once: the backbones are frozen."""
    for count in (2, 8, 16, 50):
        config = made(Found("class_folders", count, ("cat", "dog"), True))
        train = config.deeplab.train
        assert config.deeplab.freeze_backbone
        assert (train.views, train.batch_size, train.crop) == (8, min(count, 4), 192)
        assert 200 <= train.epochs * count <= 450
        assert config.affinitynet.train.epochs * count <= 500
        assert config.regions.uss.max_side == 320


def test_images_without_labels_take_predicted_ones_of_classes_that_are_named() -> None:
    config = made(Found("folder", 50), "cat", "dog")
    assert (config.classifier.source, config.data.labels) == ("zero_shot", None)
    with pytest.raises(UserError, match="--classes cat,dog"):
        made(Found("folder", 50))
    with pytest.raises(UserError, match=r"no labels, and class 'flumph'.*ImageNet has cat"):
        made(Found("folder", 50), "cat", "flumph")


def test_voc_keeps_its_own_classes_and_a_gpu_takes_a_larger_network() -> None:
    config = made(Found("voc", 1464, VOC_CLASSES, True, {"train": {"split": "train"}}), machine=NODE)
    assert (config.data.classes, config.data.train.split) == (None, "train")
    assert config.deeplab.backbone.name == "resnet50"
