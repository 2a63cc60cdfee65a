from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.shards import fixed, mark

from pfit_ray import storage
from pfit_ray.data.images import encode_label
from pfit_ray.data.label_shards import pack_shard
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.mask_ids import MaskIds
from pfit_ray.rundir.directory import LABEL_COLUMN, RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks.encode import array_bytes
from pfit_ray.tasks.score import ShardScorer

TRUTH = np.array([[0, 1, 2, 255]], dtype=np.uint8)
LABEL = np.array([[0, 1, 1, 2]], dtype=np.uint8)
# One row per true class, one column per label and one for no prediction; the ignored pixel counts nowhere.
CONFUSION = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
AS_IT_IS = np.arange(256, dtype=np.uint8)


def mask(folder: Path, name: str, values: np.ndarray) -> str:
    path = folder / f"{name}-mask.png"
    Image.fromarray(values).save(path)
    return str(path)


def listed(folder: Path, items: list[Item]) -> RunDirectory:
    run = RunDirectory(str(folder / "run"))
    for image_set in ("train", "predict"):
        write_manifest(run, image_set, iter(items), shard_size=8)
    return run


def results(run: RunDirectory, pass_name: str, images: dict[str, dict]) -> None:
    """What a pass left behind; every image has the same label map."""
    tar, places = pack_shard((image_id, encode_label(LABEL)) for image_id in images)
    rows = [
        {"image_id": image_id, "height": 1, "width": 4, "label_offset": places[image_id][0],
         "label_size": places[image_id][1], **columns}
        for image_id, columns in images.items()
    ]  # fmt: skip
    storage.write_bytes(fixed(run, pass_name, "labels", 0), tar)
    storage.write_bytes(fixed(run, pass_name, "rows", 0), pd.DataFrame(rows).to_parquet())
    mark(run, pass_name, 0)


def score(
    run: RunDirectory, pass_name: str, lookup: np.ndarray, thresholds: list[float]
) -> tuple[dict[str, np.ndarray], int, list[str]]:
    """Confusion matrices by name, images, problems."""
    found = ShardScorer(run, pass_name, 2, MaskIds(lookup, {}, {}), thresholds, 0.0)(0)
    return {name: np.asarray(one.matrix) for name, one in found.maps.items()}, found.images, found.problems


@pytest.mark.parametrize("pass_name", ["labels", "predict"])
def test_label_maps(tmp_path: Path, pass_name: str) -> None:
    uri = mask(tmp_path, "a", TRUTH)
    run = listed(tmp_path, [Item("a", "a.png", mask_uri=uri), Item("b", "b.png", mask_uri=uri), Item("c", "c.png")])
    walk = array_bytes(np.zeros((1, 1, 1), dtype=np.float16))
    results(run, pass_name, {image_id: {"keys": [1], "walk": walk} for image_id in "abc"})
    totals, images, problems = score(run, pass_name, AS_IT_IS, [0.5])
    assert (images, problems) == (2, [])
    assert totals[LABEL_COLUMN[pass_name]].tolist() == (2 * np.array(CONFUSION)).tolist()
    assert set(totals) == {LABEL_COLUMN[pass_name], *(["walk"] if pass_name == "labels" else [])}


def test_maps_are_scored_at_every_threshold(tmp_path: Path) -> None:
    run = listed(tmp_path, [Item("a", "a.png", mask_uri=mask(tmp_path, "a", TRUTH))])
    cam = array_bytes(np.full((1, 1, 1), 0.5, dtype=np.float16))
    nothing = array_bytes(np.zeros((1, 1, 1), dtype=np.float16))
    results(run, "seeds", {"a": {"keys": [2], "cam": cam, "combined_cam": nothing}})
    totals, images, _ = score(run, "seeds", AS_IT_IS, [0.4, 0.6])
    assert images == 1
    assert set(totals) == {"cam", "combined_cam"}  # affinity labels leave pixels open
    all_background, all_two = [[1, 0, 0, 0]] * 3, [[0, 0, 1, 0]] * 3
    assert totals["cam"].tolist() == [all_two, all_background]
    assert totals["combined_cam"].tolist() == [all_background, all_background]


def test_maps_without_classes(tmp_path: Path) -> None:
    run = listed(tmp_path, [Item("a", "a.png", mask_uri=mask(tmp_path, "a", TRUTH))])
    walk = array_bytes(np.zeros((0, 1, 1), dtype=np.float16))
    results(run, "labels", {"a": {"keys": [], "walk": walk}})
    totals, _, _ = score(run, "labels", AS_IT_IS, [0.4])
    assert totals["walk"].tolist() == [[[1, 0, 0, 0]] * 3]


def test_mask_values_become_ids_of_the_run(tmp_path: Path) -> None:
    lookup = AS_IT_IS.copy()
    lookup[[15, 8, 3]] = 1, 2, 0
    run = listed(tmp_path, [Item("a", "a.png", mask_uri=mask(tmp_path, "a", np.array([[3, 15, 8, 255]], np.uint8)))])
    results(run, "predict", {"a": {"keys": [1]}})
    totals, _, _ = score(run, "predict", lookup, [])
    assert totals["prediction"].tolist() == CONFUSION


def test_masks_that_cannot_be_used_are_told_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken-mask.png").write_bytes(b"nonsense")
    items = [
        Item("good", "u", mask_uri=mask(tmp_path, "good", TRUTH)),
        Item("large", "u", mask_uri=mask(tmp_path, "large", np.zeros((2, 4), np.uint8))),
        Item("alien", "u", mask_uri=mask(tmp_path, "alien", np.array([[0, 3, 0, 0]], np.uint8))),
        Item("broken", "u", mask_uri=str(tmp_path / "broken-mask.png")),
        Item("gone", "u", mask_uri=str(tmp_path / "gone-mask.png")),
    ]
    run = listed(tmp_path, items)
    results(run, "predict", {item.image_id: {"keys": [1]} for item in items})
    totals, images, problems = score(run, "predict", AS_IT_IS, [])
    assert images == 1
    assert totals["prediction"].tolist() == CONFUSION
    assert [problem.partition(";")[0] for problem in problems] == [
        "large: the mask has 4 x 2 pixels, its image has 4 x 1",
        f"alien: the mask {tmp_path}/alien-mask.png holds label 3 and there are 2 classes",
        "broken: the mask is not a PNG file",
        f"gone: {tmp_path}/gone-mask.png does not exist",
    ]
    assert "number them 1 to 2 in the order of data.classes" in problems[1]
    assert ShardScorer(run, "predict", 2, MaskIds(AS_IT_IS, {}, {}), [], 0.0)(0).above == ["alien"]


@pytest.mark.parametrize(("keys", "told"), [([1], ["a"]), ([], [])])
def test_masks_of_0_and_255_alone_are_told_where_a_class_is_there(
    tmp_path: Path, keys: list[int], told: list[str]
) -> None:
    run = listed(tmp_path, [Item("a", "a.png", mask_uri=mask(tmp_path, "a", np.array([[0, 255, 255, 0]], np.uint8)))])
    results(run, "predict", {"a": {"keys": keys}})
    assert ShardScorer(run, "predict", 2, MaskIds(AS_IT_IS, {}, {}), [], 0.0)(0).classless == told


def test_images_that_failed_are_not_scored(tmp_path: Path) -> None:
    """The double of an image has a mask too; the first image keeps its own."""
    first, double = mask(tmp_path, "a", TRUTH), mask(tmp_path, "b", np.zeros((1, 4), np.uint8))
    items = [Item("a", "a.png", mask_uri=first), Item("a", "b.png", mask_uri=double), Item("c", "c", mask_uri=first)]
    run = listed(tmp_path, items)
    results(run, "predict", {"a": {"keys": [1]}})
    totals, images, _ = score(run, "predict", AS_IT_IS, [])
    assert images == 1
    assert totals["prediction"].tolist() == CONFUSION


def test_without_ground_truth_nothing_is_read(tmp_path: Path) -> None:
    run = listed(tmp_path, [Item("a", "a.png")])
    assert score(run, "predict", AS_IT_IS, [0.5]) == ({}, 0, [])


def test_boundaries_and_counts_of_each_image(tmp_path: Path) -> None:
    uri = mask(tmp_path, "a", TRUTH)
    run = listed(tmp_path, [Item("a", "a.png", mask_uri=uri), Item("b", "b.png", mask_uri=uri)])
    cam = array_bytes(np.full((1, 1, 1), 0.5, dtype=np.float16))
    results(run, "labels", {image_id: {"keys": [1], "walk": cam} for image_id in "ab"})
    found = ShardScorer(run, "labels", 2, MaskIds(AS_IT_IS, {}, {}), [0.4, 0.6], 0.02)(0)
    label, walk = found.maps["pseudo_label"], found.maps["walk"]
    assert label.images == walk.images == ["a", "b"]
    assert [one.tolist() for one in label.counts] == 2 * [[[1, 1, 1], [1, 1, 2], [0, 1, 0]]]  # hit, true, predicted
    # An image of one row is all boundary; the ignored pixel is in no band.
    assert np.asarray(label.boundary).tolist() == [[2, 2, 2], [2, 2, 4], [0, 2, 0]]
    assert np.asarray(walk.boundary).tolist() == [
        [[0, 2, 0], [2, 2, 6], [0, 2, 0]],
        [[2, 2, 6], [0, 2, 0], [0, 2, 0]],
    ]
    assert walk.counts[0].shape == (2, 3, 3)
