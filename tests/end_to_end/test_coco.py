"""The recipe for COCO 2014 on a small set in COCO's own format, scored against ground truth drawn from its masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from support.coco_set import CATEGORIES, HEIGHT, WIDTH, write_coco
from support.places import REPOSITORY
from support.small_runs import command, label_files, label_map, table

from pfit_ray import storage
from pfit_ray.config import load_config
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.nets.weights import save_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COCO2014 = str(REPOSITORY / "configs" / "coco2014.yaml")


def test_the_recipe_on_a_small_set(local_ray: None, tmp_path: Path) -> None:
    root, folder = tmp_path / "coco", tmp_path / "run"
    photo = Image.fromarray(data.chelsea())
    for split in ("train2014", "val2014"):
        write_coco(root, split, photo)
    classes = load_config(COCO2014).data.class_list
    assert len(classes) == 80
    assert set(CATEGORIES.values()) <= set(classes.names)
    torch.manual_seed(0)
    given = []
    for name, network in (
        ("affinitynet", AffinityNet("efficientnet_lite0")),
        ("deeplab", DeepLabV3Plus("efficientnet_lite0", 81, group_norm=True)),
    ):
        storage.write_bytes(str(tmp_path / f"{name}.safetensors"), save_network(network, {}))
        given += [f"{name}.source=weights", f"{name}.weights={tmp_path}/{name}.safetensors"]
    said = command(
        "run", COCO2014, f"output={folder}", f"data.root={root}", "shard_size=2", "affinitynet.radius=3",
        "cam.scales=[1]", "predict.scales=[1]", "regions.uss.max_iterations=4", "walk.exp_times=2",
        *(f"{name}.backbone={{name: efficientnet_lite0, weights: package}}"
          for name in ("classifier", "affinitynet", "deeplab")),
        *(f"classifier.train.{setting}"
          for setting in ("epochs=1", "batch_size=2", "crop=64", "min_side=64", "max_side=96")),
        *given,
    )  # fmt: skip
    assert said.code == 0, said
    assert "4 ok + 0 failed" in said.out
    scores = json.loads((folder / "evaluation.json").read_text())
    assert {name: scores[name]["images"] for name in ("pseudo_label", "prediction")} == {
        "pseudo_label": 4,
        "prediction": 4,
    }
    assert "problems" not in scores
    scored = {name for name, value in scores["pseudo_label"]["iou"].items() if value is not None}
    assert scored >= {"background", "cat", "dog", "cup"}
    rows = table(folder, "seeds")
    names = {image_id: [classes.name(key) for key in rows.loc[image_id, "keys"]] for image_id in rows.index}
    assert names == {
        "COCO_train2014_000000000009": ["cat", "dog"],
        "COCO_train2014_000000000025": ["person", "cup"],
        "COCO_train2014_000000000030": [],
        "COCO_train2014_000000000034": ["dog"],
    }
    maps = {name: label_map(content) for name, content in label_files(folder, "pseudo_label").items()}
    assert all(label.shape == (HEIGHT, WIDTH) for label in maps.values())
    assert not np.any(maps["COCO_train2014_000000000030"])
