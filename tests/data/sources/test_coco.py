import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.coco_set import HEIGHT, WIDTH, box, write_coco

from pfit_ray.config.data import DataConfig
from pfit_ray.data.coco_masks import draw_masks
from pfit_ray.data.sources.coco import list_coco
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.mask_ids import MaskIds
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import UserError
from pfit_ray.tasks.score import read_ground_truth

CLASSES = ("dog", "cat", "person", "cup")
IDS = [f"COCO_train2014_{number:012d}" for number in (9, 25, 30, 34)]


def listed(root: Path, split: str | None = "train2014", notes: Notes | None = None, **fields: Any) -> list[Item]:
    data = DataConfig(source="coco", root=str(root), **{"classes": CLASSES, **fields})
    return list(list_coco(data, split, notes or Notes()))


def changed(path: Path, **parts: Any) -> dict[str, Any]:
    document = json.loads(path.read_text()) | parts
    path.write_text(json.dumps(document))
    return document


def test_labels_by_name_with_gaps_and_crowds(tmp_path: Path) -> None:
    write_coco(tmp_path)
    notes = Notes()
    items = listed(tmp_path, notes=notes)
    assert [item.image_id for item in items] == IDS
    assert [item.keys for item in items] == [(1, 2), (3, 4), (), (1,)]
    assert [item.uri for item in items] == [f"{tmp_path}/train2014/{name}.jpg" for name in IDS]
    assert all(item.size and item.version and item.mask_uri is None for item in items)
    assert list(notes) == []


def test_ground_truth_is_drawn(tmp_path: Path) -> None:
    write_coco(tmp_path)
    maps = [draw_masks(item.mask_uri or "", (HEIGHT, WIDTH)) for item in listed(tmp_path, draw_masks=True)]
    first = np.zeros((HEIGHT, WIDTH), np.uint8)
    first[4:30, 4:30], first[10:40, 20:50], first[10:30, 20:30] = 2, 1, 255
    np.testing.assert_array_equal(maps[0], first)
    assert np.unique(maps[1]).tolist() == [0, 4, 255]
    assert [np.unique(label).tolist() for label in maps[2:]] == [[0], [0, 1]]
    items = listed(tmp_path, draw_masks=True)
    as_it_is = MaskIds(np.arange(256, dtype=np.uint8), {}, {})
    np.testing.assert_array_equal(read_ground_truth(items[0].mask_uri or "", as_it_is, 4), first)
    cats = listed(tmp_path, draw_masks=True, classes=("cat",), unknown_classes="ignore")
    assert np.unique(draw_masks(cats[0].mask_uri or "")).tolist() == [0, 1]


@pytest.mark.parametrize("place", ["images/train2014", "images", "", "train2014", "annotations"])
def test_where_images_may_lie(tmp_path: Path, place: str) -> None:
    write_coco(tmp_path)
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    for path in list((tmp_path / "train2014").iterdir()):
        path.rename(folder / path.name)
    assert [item.uri for item in listed(tmp_path)] == [f"{folder}/{name}.jpg" for name in IDS]


def test_a_json_beside_its_images(tmp_path: Path) -> None:
    """As Roboflow writes it, with folders and Windows paths in the names, and a category that nothing has."""
    path = write_coco(tmp_path)
    path = path.rename(tmp_path / "_annotations.coco.json")
    document = json.loads(path.read_text())
    for image in document["images"]:
        image["file_name"] = f".\\train2014\\{image['file_name']}"
    document["categories"].insert(0, {"id": 0, "name": "animals"})
    path.write_text("\ufeff" + json.dumps(document, indent=1))
    for split, fields in ((None, {}), (None, {"annotations": str(path)}), (str(path), {})):
        items = listed(tmp_path, split, **fields)
        assert [item.keys for item in items] == [(1, 2), (3, 4), (), (1,)]
        assert [item.uri for item in items] == [f"{tmp_path}/train2014/{name}.jpg" for name in IDS]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    document = json.loads(path.read_text())
    annotations = document["annotations"]
    annotations[0]["image_id"] = 777
    annotations[-1]["segmentation"] = []
    annotations.append({**annotations[1], "image_id": 30, "category_id": 5})
    document["images"].append({"id": 1, "file_name": "../x.jpg", "height": 1, "width": 1})
    document["images"].append({"id": 2, "file_name": "gone.jpg"})
    path.write_text(json.dumps(document))
    (tmp_path / "train2014" / "more.jpg").write_bytes(b"x")
    (tmp_path / "train2014" / "more.txt").write_bytes(b"x")
    notes = Notes()
    items = listed(tmp_path, notes=notes, draw_masks=True)
    assert [item.reason for item in items] == [None, None, "no_label", None, "bad_id", None]
    assert [bool(item.mask_uri) for item in items] == [True, True, True, False, False, False]
    assert sorted((note.example, note.count) for note in notes) == sorted(
        [("image_id 777", 1), (IDS[3], 1), ("gone", 1), ("more.txt", 1), ("more.jpg", 1)]
    )
    assert listed(tmp_path, classes=("cat",))[1].reason == "unknown_class"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"categories": []}, "it has no categories"),
        ({"images": [{"id": 1}]}, "an entry lacks 'file_name'"),
        ({"images": [{"id": 9, "file_name": "a.jpg"}]}, "are in none of the folders"),
        ({"images": []}, "lists no images"),
    ],
)
def test_unusable_files(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    changed(write_coco(tmp_path), **change)
    with pytest.raises(UserError, match=words):
        listed(tmp_path)


def test_images_that_stand_twice_and_damaged_files(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    document = json.loads(path.read_text())
    changed(path, images=document["images"] * 2)
    with pytest.raises(UserError, match="image id 9 "):
        listed(tmp_path)
    path.write_text(path.read_text()[:-100])
    with pytest.raises(UserError, match="is not a valid JSON file"):
        listed(tmp_path)
    with pytest.raises(UserError, match=r"there is no .*instances_val2014.json; name the JSON by data.train.split"):
        listed(tmp_path, "val2014")
    with pytest.raises(UserError, match=r"split 'x' .* data\.annotations"):
        listed(tmp_path, "x", annotations=str(path))


def test_polygons_are_no_reason_to_keep_a_file_in_memory(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    document = json.loads(path.read_text())
    many = [{**document["annotations"][0], "id": number, "segmentation": box(1, 1, 9, 9)} for number in range(3000)]
    changed(path, annotations=many)
    first, *_ = listed(tmp_path, draw_masks=True)
    assert first.keys == (2,)
    assert draw_masks(first.mask_uri or "").sum() == 2 * 64
