"""The published recipe on a slice of real photographs of PASCAL VOC: small networks, a classifier of one epoch."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from support.places import REPOSITORY
from support.small_runs import command, label_files, label_map, table

from pfit_ray import storage
from pfit_ray.data.sources.voc_xml import object_names
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

VOC2012 = str(REPOSITORY / "configs" / "voc2012.yaml")
ANIMALS = ["sheep", "person", "horse", "dog", "cow", "cat"]  # another order than VOC's, so that masks are renumbered
NETWORKS = ("classifier", "affinitynet", "deeplab")


@pytest.fixture(scope="module")
def voc_slice(voc_animals: Path, local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of train, from the training of a CAM classifier to scores on two images of val.

    The other two networks are random ones: their trainings are those of the small run.
    """
    folder = tmp_path_factory.mktemp("voc") / "run"
    recipe = ("epochs=1", "batch_size=2", "crop=96", "min_side=96", "max_side=160")
    torch.manual_seed(0)
    random = {
        "affinitynet": AffinityNet("efficientnet_lite0"),
        "deeplab": DeepLabV3Plus("efficientnet_lite0", 1 + len(ANIMALS), group_norm=True),
    }
    given = []
    for name, network in random.items():
        path = folder.parent / f"{name}.safetensors"
        storage.write_bytes(str(path), save_network(network, {}))
        given += [f"{name}.source=weights", f"{name}.weights={path}"]
    said = command(
        "run",
        VOC2012,
        f"output={folder}",
        f"data.root={voc_animals}",
        f"data.classes=[{', '.join(ANIMALS)}]",
        "data.train={split: train, limit: 4}",
        "data.predict={split: val, limit: 2}",
        "shard_size=1",
        "affinitynet.radius=5",
        "cam.scales=[0.5, 1]",
        "predict.scales=[0.5, 1]",
        *(f"{network}.backbone={{name: efficientnet_lite0, weights: package}}" for network in NETWORKS),
        *(f"classifier.train.{setting}" for setting in recipe),
        *given,
    )
    assert said.code == 0, said
    return folder


def test_everything_that_is_scored_has_a_miou(voc_slice: Path) -> None:
    scores = json.loads((voc_slice / "evaluation.json").read_text())
    images = {name: numbers["images"] for name, numbers in scores.items()}
    assert images == {"cam": 4, "combined_cam": 4, "walk": 4, "pseudo_label": 4, "prediction": 2}
    for numbers in scores.values():
        assert 0 <= numbers["miou"] <= 1
        assert 0 <= numbers["miou_published"] <= 1
        assert list(numbers["iou"]) == ["background", *ANIMALS]
        assert all(value is None or 0 <= value <= 1 for value in numbers["iou"].values())
    for name in ("cam", "combined_cam", "walk"):
        assert len(scores[name]["sweep"]) == 15


def test_images_are_those_of_the_lists_with_the_labels_of_their_annotations(voc_slice: Path, voc_animals: Path) -> None:
    lists = voc_animals / "ImageSets" / "Segmentation"
    train = (lists / "train.txt").read_text().split()[:4]
    rows = table(voc_slice, "seeds")
    assert sorted(rows.index) == sorted(train)
    for image_id in train:
        names = object_names((voc_animals / "Annotations" / f"{image_id}.xml").read_bytes())
        assert list(rows.loc[image_id, "keys"]) == sorted(ANIMALS.index(name) + 1 for name in set(names))
    assert sorted(table(voc_slice, "predict").index) == sorted((lists / "val.txt").read_text().split()[:2])


def test_pseudo_label_score_against_pixels_counted_by_hand(voc_slice: Path, voc_animals: Path) -> None:
    voc_ids = {"cat": 8, "cow": 10, "dog": 12, "horse": 13, "person": 15, "sheep": 17}
    hits, union = np.zeros(7), np.zeros(7)
    for image_id, data in label_files(voc_slice, "pseudo_label").items():
        found = label_map(data)
        with Image.open(voc_animals / "SegmentationClass" / f"{image_id}.png") as mask:
            truth = np.asarray(mask)
        for own, voc in enumerate([0, *(voc_ids[name] for name in ANIMALS)]):
            ours, theirs = (found == own) & (truth != 255), truth == voc
            hits[own] += (ours & theirs).sum()
            union[own] += (ours | theirs).sum()
    miou = (hits[union > 0] / union[union > 0]).mean()
    scores = json.loads((voc_slice / "evaluation.json").read_text())
    assert scores["pseudo_label"]["miou"] == pytest.approx(miou, abs=1e-6)


def test_the_classifier_was_trained_in_the_same_command(voc_slice: Path) -> None:
    examples = pd.read_parquet(voc_slice / "train" / "classifier" / "examples.parquet")
    assert len(examples) == 4
    lines = (voc_slice / "train" / "classifier" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 2
