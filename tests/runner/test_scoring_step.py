from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.shards import fixed

from pfit_ray import storage
from pfit_ray.config.load import validate
from pfit_ray.config.run import RunConfig
from pfit_ray.data.images import encode_label
from pfit_ray.data.label_shards import pack_shard
from pfit_ray.data.sources.item import Item
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.runner.scoring_step import evaluate_run, thresholds
from pfit_ray.tasks.encode import array_bytes

TRUTH = {"a": [[0, 1, 1, 255]], "b": [[0, 2]]}
KEYS = {"a": 1, "b": 2, "late": 1}
LABEL = {"a": [[0, 1, 0, 0]], "b": [[0, 2]], "late": [[1]]}
CAM = {"a": 0.5, "b": 0.25, "late": 1.0}


def config(folder: Path, **evaluate: float) -> RunConfig:
    return validate(
        {
            "output": str(folder),
            "data": {"source": "folder", "root": "photographs", "classes": ["cat", "dog", "never seen"]},
            "evaluate": evaluate,
        }
    )


def map_bytes(value: float) -> bytes:
    """A CAM of one class that has the same value everywhere."""
    return array_bytes(np.full((1, 1, 1), value, np.float16))


def write_pass(run: RunDirectory, pass_name: str, shard: int, image_ids: list[str]) -> None:
    labels = {image_id: np.array(LABEL[image_id], np.uint8) for image_id in image_ids}
    tar, places = pack_shard((image_id, encode_label(label)) for image_id, label in labels.items())
    rows = [
        {
            "image_id": image_id,
            "height": label.shape[0],
            "width": label.shape[1],
            "keys": [KEYS[image_id]],
            "cam": map_bytes(CAM[image_id]),
            "combined_cam": map_bytes(2 * CAM[image_id]),
            "walk": map_bytes(0.0),
            "label_offset": places[image_id][0],
            "label_size": places[image_id][1],
        }
        for image_id, label in labels.items()
    ]
    storage.write_bytes(fixed(run, pass_name, "labels", shard), tar)
    storage.write_bytes(fixed(run, pass_name, "rows", shard), pd.DataFrame(rows).to_parquet())
    run.write_json({"shard": shard}, pass_name, "done", f"{shard:05d}.json")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Two images in shard 0, one whose mask has another size in shard 1, all three passes."""
    items = []
    for image_id, truth in {**TRUTH, "late": [[0, 0]]}.items():
        path = tmp_path / f"{image_id}.png"
        Image.fromarray(np.array(truth, np.uint8)).save(path)
        items.append(Item(image_id, f"{image_id}.jpg", (KEYS[image_id],), str(path)))
    run = RunDirectory(str(tmp_path / "run"))
    for image_set in ("train", "predict"):
        write_manifest(run, image_set, iter(items), shard_size=2)
    for pass_name in ("seeds", "labels", "predict"):
        write_pass(run, pass_name, 0, ["a", "b"])
        write_pass(run, pass_name, 1, ["late"])
    return run


def test_scores_of_all_maps(run: RunDirectory, local_ray: None) -> None:
    sweep = {"threshold_start": 0.2, "threshold_stop": 0.8, "threshold_step": 0.2}
    result = evaluate_run(config(Path(run.root), **sweep), run)
    assert list(result) == ["cam", "combined_cam", "walk", "pseudo_label", "prediction", "problems"]
    assert result["problems"] == ["late: the mask has 2 x 1 pixels, its image has 1 x 1"]

    # At 0.2 every pixel is its image's class: IoU 0/2, 2/3, 1/2; at 0.4 image b is background: 1/3, 2/3, 0;
    # at 0.6 both are: 2/5, 0, 0.
    cam = result["cam"]
    assert cam["sweep"] == [
        {"threshold": 0.2, "miou": 0.388889},
        {"threshold": 0.4, "miou": 0.333333},
        {"threshold": 0.6, "miou": 0.133333},
    ]
    assert (cam["threshold"], cam["miou"], cam["images"]) == (0.2, 0.388889, 2)
    assert cam["iou"] == {"background": 0.0, "cat": 0.666667, "dog": 0.5, "never seen": None}
    assert cam["confusion"] == {"background": {"cat": 1, "dog": 1}, "cat": {"cat": 2}, "dog": {"dog": 1}}
    assert [one["miou"] for one in result["combined_cam"]["sweep"]] == [0.388889, 0.388889, 0.333333]
    assert [one["miou"] for one in result["walk"]["sweep"]] == [0.133333] * 3

    # Without the ignored pixel: background 2 hits of 3 predicted, cat 1 of 2, dog 1 of 1.
    expected = {
        "images": 2,
        "miou": 0.722222,
        "miou_published": 0.541667,
        "fp": 0.0,
        "fn": 0.166667,
        "iou": {"background": 0.666667, "cat": 0.5, "dog": 1.0, "never seen": None},
        "precision": {"background": 0.666667, "cat": 1.0, "dog": 1.0, "never seen": None},
        "recall": {"background": 1.0, "cat": 0.5, "dog": 1.0, "never seen": None},
        "confusion": {"background": {"background": 2}, "cat": {"background": 1, "cat": 1}, "dog": {"dog": 1}},
    }
    for name in ("pseudo_label", "prediction"):
        origin = result[name].pop("provenance")
        assert origin["split"] == "all images"
        low, high = result[name].pop("miou_interval")
        assert 0 <= low <= result[name]["miou"] <= high <= 1
        # Images of one row are all boundary: the same numbers as without.
        assert result[name].pop("boundary_miou") == result[name]["miou"]
        assert result[name].pop("boundary_iou") == result[name]["iou"]
        assert result[name] == expected


def test_interval_and_boundary_can_be_left_out(run: RunDirectory, local_ray: None) -> None:
    result = evaluate_run(config(Path(run.root), bootstrap=0, boundary=0), run)
    assert result["prediction"]["miou_interval"] is None
    assert "boundary_miou" not in result["prediction"]


def test_shards_that_are_not_finished_do_not_count(run: RunDirectory, local_ray: None) -> None:
    for pass_name in ("seeds", "labels"):
        storage.remove(run.marker(pass_name, 0))
    storage.remove(run.marker("predict", 1))
    result = evaluate_run(config(Path(run.root)), run)
    assert list(result) == ["prediction", "problems"]
    assert result["prediction"]["miou"] == 0.722222


def test_nothing_to_compare_with(run: RunDirectory, local_ray: None) -> None:
    for image_set in ("train", "predict"):
        write_manifest(run, image_set, iter([Item("a", "a.jpg", (1,)), Item("b", "b.jpg", (2,))]), shard_size=2)
    storage.remove(run.url("seeds", "done", "00001.json"))
    storage.remove(run.url("labels", "done", "00001.json"))
    storage.remove(run.url("predict", "done", "00001.json"))
    assert evaluate_run(config(Path(run.root)), run) == {}


def test_without_ground_truth_nothing_is_started(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for image_set in ("train", "predict"):
        items = [Item(image_id, "u", (KEYS[image_id],)) for image_id in KEYS]
        write_manifest(run, image_set, iter(items), shard_size=2)
    monkeypatch.setattr("pfit_ray.runner.scoring_step._score_all", lambda *_: pytest.fail("something is scored"))
    assert evaluate_run(config(Path(run.root)), run) == {}


def test_a_mistake_that_a_worker_finds_arrives_as_one_sentence(run: RunDirectory, local_ray: None) -> None:
    storage.remove(run.url("seeds", "rows"))
    storage.write_bytes(run.url("seeds", "rows"), b"")
    with pytest.raises(UserError) as caught:
        evaluate_run(config(Path(run.root)), run)
    assert str(caught.value).startswith(f"{fixed(run, 'seeds', 'rows', 0)}: a part of this path is a file")


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ({}, [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75]),
        ({"threshold_start": 0.1, "threshold_stop": 0.4, "threshold_step": 0.1}, [0.1, 0.2, 0.3]),
        ({"threshold_start": 0.1, "threshold_stop": 0.41, "threshold_step": 0.1}, [0.1, 0.2, 0.3, 0.4]),
        ({"threshold_start": 0.5, "threshold_stop": 0.5}, [0.5]),
    ],
)
def test_thresholds(tmp_path: Path, sweep: dict[str, float], expected: list[float]) -> None:
    assert thresholds(config(tmp_path, **sweep)) == expected


def test_masks_with_ids_above_the_classes_are_noted_once_with_their_count(run: RunDirectory, local_ray: None) -> None:
    (mask,) = Path(run.root).parent.glob("b.png")
    Image.fromarray(np.array([[0, 90]], np.uint8)).save(mask)
    result = evaluate_run(config(Path(run.root)), run)
    assert result["prediction"]["images"] == 1
    (note,) = result["notes"]
    assert note.startswith("1 masks hold class ids above 3, the last of data.classes, such as that of b, ")
    assert note.endswith("the scores of the other 1 mislead")
