import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.export_run import CLASSES, ExportRun, write_run, write_shard
from support.small_runs import command, label_map, one_sentence

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.data.sources.item import Item, hashed_id
from pfit_ray.errors import UserError
from pfit_ray.results.export import FORMATS, ExportOptions, export_run
from pfit_ray.results.export.card import METHOD
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.run import original_name
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.rundir.provenance import provenance


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_left_out_is_counted(finished: ExportRun, tmp_path: Path, name: str) -> None:
    done = export_run(finished.config, finished.directory, str(tmp_path / "out"), ExportOptions(name))
    assert (done.kind, done.exported, done.unfinished) == ("pseudo_label", 4, 1)
    assert done.failed == {"no_label": 1, "missing": 1}
    (problem,) = done.problems
    assert problem.startswith("gone: ")
    told = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (told["exported"], told["failed"], told["scores"]["miou"]) == (4, {"no_label": 1, "missing": 1}, 0.5)
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "unknown"
    for words in ("mIoU 0.5000", "| cat | - |", "Left out, failed: 1 missing, 1 no_label; not finished: 1", "beta 10"):
        assert words in card
    method = yaml.safe_load(card.partition("```yaml")[2].partition("```")[0])
    assert method == told["config"]
    assert (method["walk"]["beta"], method["regions"]["slic"]["n_segments"]) == (10.0, 1000)
    assert method["deeplab"]["backbone"] == {"name": "resnest101", "weights": "imagenet"}


PRIVATE = {
    "data": {
        "source": "voc", "root": "/home/private", "train": {"split": "s3://private/list.txt"},
        "score": "/private/val.txt", "predict": {"split": "private/test.txt"},
    },
    "classifier": {"source": "weights", "weights": "s3://private/a.pth", "backbone": {"name": "local-dir:/private"}},
    "affinitynet": {"backbone": {"weights": "/private/b.pth"}},
    "deeplab": {"source": "weights", "weights": "private.safetensors"},
    "cam": {"source": "own", "options": {"server": "https://private", "pin": 41421356, "list": ["private"]}},
    "regions": {
        "sources": [
            {"kind": "slic", "options": {"n_segments": 77}},
            {"kind": "own", "options": {"folder": "gs://private"}},
            {"kind": "external", "options": {"url": "az://private/*.tar"}},
        ]
    },
    "storage": {"endpoint_url": "http://private:9000", "profile": "private", "region": "private"},
}  # fmt: skip


@pytest.mark.parametrize("labels", ["pseudo_label", "prediction"])
def test_nothing_private_is_published(finished: ExportRun, tmp_path: Path, labels: str) -> None:
    shutil.copytree(finished.directory.root, tmp_path / "private")
    run = RunDirectory(str(tmp_path / "private"))
    classes = {"classes": CLASSES, **PRIVATE["data"]}
    config = validate({**PRIVATE, "output": run.root, "data": classes})
    scores = {"images": 2, "miou": 0.5, "fp": 0.25, "fn": 0.125, "iou": {"cat": 0.5}, "note": "private"}
    run.write_json({labels: {**scores, "provenance": provenance(config, run)[labels]}}, "evaluation.json")
    export_run(config, run, str(tmp_path / "out"), ExportOptions("png", labels))
    card, told = ((tmp_path / "out" / name).read_text() for name in ("README.md", "card.json"))
    for text in (card, told):
        assert "private" not in text
        assert "41421356" not in text
        assert str(tmp_path) not in text
    method = json.loads(told)["config"]
    assert method["cam"]["source"] == "own"
    assert [(one["kind"], one.get("options")) for one in method["regions"]["sources"]] == [
        ("slic", {"n_segments": 77}), ("own", None), ("external", None),
    ]  # fmt: skip
    assert "split a list of one's own" in card
    assert json.loads(told)["scores"]["provenance"]["fidelity"]


def test_every_section_of_the_config_is_published_or_private_on_purpose() -> None:
    private = {
        "output", "passes", "shard_size", "max_failed_fraction", "faults", "sheets", "data", "evaluate", "resources",
        "storage",
    }  # fmt: skip
    assert {*METHOD} | private == set(RunConfig.model_fields)


def test_ids_that_differ_in_capital_letters_alone_have_files_of_their_own(tmp_path: Path) -> None:
    finished = write_run(tmp_path)
    labels = {"x1": finished.labels["a"], "X1": finished.labels["b"], "other": finished.labels["c"]}
    items = [Item(image_id, str(tmp_path / "a.jpg"), (1,)) for image_id in labels]
    write_manifest(finished.directory, "train", iter(items), shard_size=3)
    write_shard(finished.directory, "labels", 0, labels, {})
    storage.remove(finished.directory.marker("labels", 1))
    options = ExportOptions("png", "pseudo_label", images="none")
    done = export_run(finished.config, finished.directory, str(tmp_path / "out"), options)
    files = {path.stem: path for path in (tmp_path / "out" / "labels").iterdir()}
    assert len({name.lower() for name in files}) == len(files) == 3
    (renamed,) = files.keys() - labels.keys()
    assert renamed == hashed_id("X1", "X1")
    np.testing.assert_array_equal(label_map(files["x1"].read_bytes()), labels["x1"])
    np.testing.assert_array_equal(label_map(files[renamed].read_bytes()), labels["X1"])
    assert done.renamed == 1
    assert done.problems == [f"X1: called {renamed}, because another id differs in capital letters alone"]
    assert "1 have another name here" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("uri", "place", "root", "name"),
    [
        ("/data/cats/a.jpg", {}, "/data", "cats/a.jpg"),
        ("/data/cats/a.jpg", {}, "/data/*/*.jpg", "a.jpg"),
        ("s3://bucket/all/x/a.jpg", {"row": None, "offset": None}, "s3://bucket/all", "x/a.jpg"),
        ("https://host.example/x/a.jpg?signature=1/2", {}, None, "a.jpg"),
        ("s3://bucket/all/0.parquet", {"row": 0}, "s3://bucket/all", "0.parquet#0"),
        ("/data/0.tar", {"offset": 512}, "/data", "0.tar#512"),
    ],
)
def test_original_names_tell_no_more_than_what_lies_below_the_root(
    uri: str, place: dict[str, int], root: str | None, name: str
) -> None:
    image = LabelledImage("a", 1, 1, [], {}, b"", {"uri": uri, **place})
    assert original_name(image, root) == name


def test_photographs_lie_as_their_labels(finished: ExportRun, tmp_path: Path) -> None:
    export_run(finished.config, finished.directory, str(tmp_path / "out"), ExportOptions("png"))
    images = sorted((tmp_path / "out" / "images").iterdir())
    assert [image.name for image in images] == ["a.jpg", "b.png", "c.jpg", "turned.png"]
    for image in images:
        with Image.open(image) as photo:
            assert photo.size == finished.labels[image.stem].shape[::-1]
    for name in ("a.jpg", "c.jpg"):  # a JPEG, and one of several pictures
        assert (tmp_path / "out" / "images" / name).read_bytes() == (finished.photographs / name).read_bytes()


def test_links(finished: ExportRun, tmp_path: Path) -> None:
    export_run(finished.config, finished.directory, str(tmp_path / "out"), ExportOptions("voc", images="link"))
    folder = tmp_path / "out" / "JPEGImages"
    assert (folder / "a.jpg").readlink() == finished.photographs / "a.jpg"
    assert not (folder / "turned.png").is_symlink()


def test_without_photographs_none_is_missed(finished: ExportRun, tmp_path: Path) -> None:
    done = export_run(finished.config, finished.directory, str(tmp_path / "out"), ExportOptions("png", images="none"))
    assert (done.exported, dict(done.failed)) == (5, {"no_label": 1})
    assert not (tmp_path / "out" / "images").exists()


def test_into_a_bucket_the_same_files_go(finished: ExportRun, tmp_path: Path) -> None:
    for name in FORMATS:
        options = ExportOptions(name, images="link")  # links lead nowhere from a bucket: photographs are copied
        export_run(finished.config, finished.directory, f"memory://bucket/{name}", options)
        export_run(finished.config, finished.directory, str(tmp_path / name), ExportOptions(name))
        local = {url.removeprefix(f"{tmp_path}/{name}/"): url for url, _ in storage.list_files(str(tmp_path / name))}
        remote = {
            url.removeprefix(f"memory://bucket/{name}/"): url
            for url, _ in storage.list_files(f"memory://bucket/{name}")
        }
        assert local.keys() == remote.keys()
        for path in local.keys() - {"card.json"}:
            assert storage.read_bytes(local[path]) == storage.read_bytes(remote[path]), path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ExportOptions("kitti"),
            "there is no format 'kitti'; choose from voc, coco, labelme, cvat, png, hf, yolo, fifty",
        ),
        (ExportOptions("png", kind="cam"), "there is no map 'cam' to export; choose from pseudo_label, prediction"),
        (ExportOptions("png", split="../x"), "split '../x'"),
    ],
)
def test_mistakes(finished: ExportRun, tmp_path: Path, options: ExportOptions, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("../", r"\.\./")):
        export_run(finished.config, finished.directory, str(tmp_path / "out"), options)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_and_a_run_without_labels(finished: ExportRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty; give another folder, or remove it first"):
        export_run(finished.config, finished.directory, str(tmp_path), ExportOptions("png"))
    with pytest.raises(UserError, match="has no pseudo_label or prediction yet"):
        export_run(finished.config, RunDirectory(str(tmp_path / "run")), str(tmp_path / "out"), ExportOptions("png"))


def test_ids_of_a_foreign_run_stay_inside_the_export(finished: ExportRun, tmp_path: Path) -> None:
    """Whatever a table of the run says, no file appears outside."""
    import pyarrow.parquet as pq

    run = tmp_path / "run"
    for url, _ in storage.list_files(finished.directory.root):
        storage.write_bytes(str(run / url.removeprefix(finished.directory.root + "/")), storage.read_bytes(url))
    path = run / "labels" / "rows" / "00000.parquet"
    table = pq.read_table(path)
    ids = ["../../escaped" if name == "a" else name for name in table["image_id"].to_pylist()]
    pq.write_table(table.set_column(0, "image_id", [ids]), path)
    done = export_run(finished.config, RunDirectory(str(run)), str(tmp_path / "x" / "y" / "out"), ExportOptions("png"))
    assert (done.exported, done.failed["bad_id"]) == (3, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "x"}
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["y"]


def test_command(finished: ExportRun, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["export", finished.directory.root, "-o", str(out), "--format", "png"]
    done = command(*words, "--labels", "prediction", "--split", "mine", "--license", "cc0-1.0")
    assert done.code == 0, done
    assert "prediction: 4 images exported as png\n" in done.out
    assert "left out, failed: 1 missing, 1 no_label\n" in done.out
    mirrored = finished.labels["a"][:, ::-1]
    assert (label_map((out / "labels" / "a.png").read_bytes()) == mirrored).all()
    assert "license: cc0-1.0\n" in (out / "README.md").read_text()
    assert one_sentence(command(*words)) == f"export: {out} is not empty; give another folder, or remove it first"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_an_image_that_has_another_size_now_is_left_out_and_counted(tmp_path: Path, kind: str) -> None:
    (tmp_path / "made").mkdir()
    made = write_run(tmp_path / "made")
    Image.new("RGB", (12, 18)).save(made.photographs / "b.png", kind)
    done = export_run(made.config, made.directory, str(tmp_path / "out"), ExportOptions("png"))
    assert done.failed["bad_mask"] == 1
    assert any(problem.startswith("b: ") for problem in done.problems)
    assert not (tmp_path / "out" / "labels" / "b.png").exists()
