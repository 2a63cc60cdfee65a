import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.export_run import ExportRun, write_run
from support.small_runs import command, one_sentence

from pfit_ray import storage
from pfit_ray.data.images import encode_label
from pfit_ray.data.label_shards import pack_shard
from pfit_ray.errors import UserError
from pfit_ray.ops.scores.evaluation import confusion, scores
from pfit_ray.results.evaluate_files import FilesRequest, evaluate_files

TRUTH = {"a": [[0, 1, 1, 255]], "b": [[0, 2, 2, 2]]}
LABEL = {"a": [[0, 1, 0, 0]], "b": [[0, 2, 2, 1]]}
IOU = {"background": 2 / 3, "cat": 1 / 3, "dog": 2 / 3}
CLASSES = ("cat", "dog")


def png(values: list[list[int]]) -> bytes:
    return encode_label(np.array(values, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A VOC folder, and the same label maps as PNGs and in a shard."""
    for image_id, values in TRUTH.items():
        storage.write_bytes(str(tmp_path / "VOC" / "SegmentationClass" / f"{image_id}.png"), png(values))
        storage.write_bytes(str(tmp_path / "pngs" / f"{image_id}.png"), png(LABEL[image_id]))
    storage.write_bytes(str(tmp_path / "VOC" / "ImageSets" / "Segmentation" / "val.txt"), b"a\nb\n")
    tar, _ = pack_shard((image_id, png(values)) for image_id, values in LABEL.items())
    storage.write_bytes(str(tmp_path / "shards" / "00000.tar"), tar)
    return tmp_path


def request(folder: Path, labels: str, **fields) -> FilesRequest:
    return FilesRequest(str(folder / labels), str(folder / "VOC"), **{"classes": CLASSES, **fields})


@pytest.mark.parametrize("labels", ["pngs", "shards", "shards/00000.tar"])
@pytest.mark.parametrize("names", [None, "val"])
def test_label_maps(folder: Path, labels: str, names: str | None) -> None:
    found = evaluate_files(request(folder, labels, names=names))
    assert found["label"]["images"] == 2
    assert found["label"]["iou"] == {name: round(value, 6) for name, value in IOU.items()}
    assert found["label"]["miou"] == round(np.mean(list(IOU.values())), 6)
    origin = found["label"]["provenance"]
    assert (origin["split"], origin["labels"]) == (names or "all images with ground truth", str(folder / labels))
    assert found["without_truth"] == 0


def test_the_interval_does_not_depend_on_where_the_maps_lie(folder: Path) -> None:
    one, other = (evaluate_files(request(folder, labels))["label"] for labels in ("pngs", "shards"))
    assert one["miou_interval"] == other["miou_interval"]
    assert one["miou_interval"][0] <= one["miou"] <= one["miou_interval"][1]
    assert evaluate_files(request(folder, "pngs", bootstrap=0))["label"]["miou_interval"] is None


def test_class_maps(folder: Path) -> None:
    for image_id, key in (("a", 1), ("b", 2)):
        cam = np.array([[[0.0, 0.6, 0.3, 0.0]]], np.float16)
        buffer = io.BytesIO()
        np.savez(buffer, keys=np.array([key]), cam=cam)
        storage.write_bytes(str(folder / "maps" / f"{image_id}.npz"), buffer.getvalue())
    found = evaluate_files(request(folder, "maps", thresholds=(0.2, 0.5)))["map"]
    at_02 = sum(confusion(np.array(p, np.uint8), np.array(TRUTH[i], np.uint8), 2) for i, p in
                (("a", [[0, 1, 1, 0]]), ("b", [[0, 2, 2, 0]])))  # fmt: skip
    assert found["sweep"][0] == {"threshold": 0.2, "miou": round(scores(at_02).miou, 6)}
    assert found["threshold"] == 0.2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"keys": np.array([1])}, "a.npz: the .npz file must hold the arrays keys and cam"),
        ({"keys": np.array([3]), "cam": np.zeros((1, 1, 4))}, "keys are 3 to 3; class ids are 1 to 2"),
        ({"keys": np.array([1, 2]), "cam": np.zeros((1, 1, 4))}, "cam must be floats"),
        ({"keys": np.array([1]), "cam": np.full((1, 1, 4), np.nan)}, "cam holds NaN"),
        ({"keys": np.array([1]), "cam": np.array([{}])}, "cam holds Python objects"),
    ],
)
def test_class_maps_that_cannot_be_used(folder: Path, arrays: dict, words: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    storage.write_bytes(str(folder / "maps" / "a.npz"), buffer.getvalue())
    with pytest.raises(UserError, match=words):
        evaluate_files(request(folder, "maps"))


def test_files_that_cannot_be_used_are_told(folder: Path) -> None:
    (folder / "pngs" / "b.png").write_bytes(png([[0, 2]]))
    (folder / "pngs" / "alien.png").write_bytes(png([[0]]))
    (folder / "pngs" / "notes.txt").write_text("mine")
    found = evaluate_files(request(folder, "pngs"))
    assert (found["label"]["images"], found["without_truth"]) == (1, 1)
    assert found["problems"] == ["b: the mask has 2 x 1 pixels, its image has 4 x 1"]


@pytest.mark.parametrize("names", [None, "val"])
def test_two_label_maps_of_one_name(folder: Path, names: str | None) -> None:
    storage.write_bytes(str(folder / "pngs" / "deep" / "a.png"), png(LABEL["a"]))
    with pytest.raises(UserError, match=r"more than one file of the name 'a', the second in .*deep/a.png"):
        evaluate_files(request(folder, "pngs", names=names))


def test_images_of_the_list_must_be_there(folder: Path) -> None:
    (folder / "pngs" / "b.png").unlink()
    with pytest.raises(UserError, match=r"1 images of the list have no file in .*pngs: b"):
        evaluate_files(request(folder, "pngs", names="val"))
    with pytest.raises(UserError, match=r"there is no list .*test\.txt"):
        evaluate_files(request(folder, "pngs", names="test"))
    with pytest.raises(UserError, match=r"there is no .*nowhere"):
        evaluate_files(request(folder, "nowhere"))
    with pytest.raises(UserError, match=r"nothing in .* could be scored"):
        evaluate_files(request(folder, "VOC/ImageSets"))


def test_ids_of_voc(folder: Path) -> None:
    for image_id, values in TRUTH.items():
        voc = np.array([0, 8, 12], np.uint8)[np.minimum(values, 2)]
        voc[np.array(values) == 255] = 255
        storage.write_bytes(str(folder / "VOC" / "SegmentationClass" / f"{image_id}.png"), encode_label(voc))
    assert evaluate_files(request(folder, "pngs", truth_ids="voc"))["label"]["iou"]["dog"] == round(2 / 3, 6)
    with pytest.raises(UserError, match="VOC has no class 'unicorn'"):
        evaluate_files(request(folder, "pngs", truth_ids="voc", classes=("cat", "unicorn")))


def test_command(folder: Path) -> None:
    words = ["evaluate", str(folder / "pngs"), "--truth", str(folder / "VOC"), "--classes", "cat, dog", "--list", "val"]
    table = command(*words)
    assert table.code == 0, table
    assert re.search(r"label .* 2 .* 55.56 ", table.out)
    assert re.search(r"dog .* 66.67 ", table.out)
    assert "label: split val; label maps" in table.out
    said = command(*words, "--format", "json", "-o", str(folder / "scores.json"))
    assert (said.code, said.out) == (0, "")
    metrics = json.loads((folder / "scores.json").read_text())
    rows = list(csv.DictReader(io.StringIO(command(*words, "--format", "csv").out)))
    assert [row["class"] for row in rows] == ["", "background", "cat", "dog"]
    assert all(row["split"] == "val" for row in rows)
    assert float(rows[0]["miou"]) == metrics["label"]["miou"]
    assert float(rows[0]["miou_low"]) == metrics["label"]["miou_interval"][0]
    assert [float(row["iou"]) for row in rows[1:]] == list(metrics["label"]["iou"].values())
    assert [float(row["boundary_iou"]) for row in rows[1:]] == list(metrics["label"]["boundary_iou"].values())
    assert one_sentence(command(*words, "-o", "x")) == "evaluate: --output needs --format json or --format csv"


def test_the_export_of_a_run_scores_as_the_run_does(tmp_path: Path) -> None:
    """Label maps that leave by `export` come back by `evaluate`."""
    run: ExportRun = write_run(tmp_path)
    out = tmp_path / "out"
    assert command("export", run.directory.root, "-o", str(out), "--format", "voc").code == 0
    found = evaluate_files(FilesRequest(str(out / "SegmentationClass"), str(out), ("cat", "dog", "red <fox>"), "train"))
    assert found["label"]["images"] == 4
    assert found["label"]["miou"] == found["label"]["boundary_miou"] == 1.0


def test_ground_truth_of_0_and_255_alone_is_no_score(folder: Path) -> None:
    masks = folder / "VOC" / "SegmentationClass"
    storage.write_bytes(str(masks / "a.png"), png([[0, 255, 255, 0]]))
    found = evaluate_files(request(folder, "pngs"))
    (note,) = found["notes"]
    assert note.startswith("1 masks hold 0 and 255 alone, such as that of a")
    storage.write_bytes(str(masks / "b.png"), png([[0, 255, 255, 0]]))
    with pytest.raises(UserError, match=r"no mask in .* has a class: 2 masks hold 0 and 255 alone"):
        evaluate_files(request(folder, "pngs"))


@pytest.mark.parametrize("name", ["background", "Background", "__background__"])
def test_the_background_is_no_class_of_the_list(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"evaluate: class 1 is '{name}'"):
        evaluate_files(request(folder, "pngs", classes=(name, *CLASSES)))


def test_label_maps_in_the_colours_of_cvat(folder: Path) -> None:
    """A corrected export comes back as CVAT writes it, its classes in another order."""
    colours = {0: (0, 0, 0), 1: (9, 8, 7), 2: (70, 80, 90)}
    (folder / "cvat" / "SegmentationClass").mkdir(parents=True)
    (folder / "cvat" / "labelmap.txt").write_text("background:0,0,0::\ndog:70,80,90::\ncat:9,8,7::\n")
    for image_id, rows in LABEL.items():
        pixels = np.array([[colours[value] for value in row] for row in rows], np.uint8)
        Image.fromarray(pixels).save(folder / "cvat" / "SegmentationClass" / f"{image_id}.PNG")
    found = evaluate_files(request(folder, "cvat/SegmentationClass"))
    assert found["label"]["iou"] == {name: round(value, 6) for name, value in IOU.items()}


def test_masks_with_ids_above_the_classes_are_counted_and_said(folder: Path) -> None:
    storage.write_bytes(str(folder / "VOC" / "SegmentationClass" / "b.png"), png([[0, 90, 90, 90]]))
    found = evaluate_files(request(folder, "pngs"))
    assert found["label"]["images"] == 1
    assert [note.split(",")[0] for note in found["notes"]] == ["1 masks hold class ids above 2"]
    assert "the scores of the other 1 mislead" in found["notes"][0]
    assert [problem.partition(":")[0] for problem in found["problems"]] == ["b"]
