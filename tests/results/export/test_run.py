import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from support.export_run import ExportRun
from support.small_runs import command, label_map, one_sentence

from pfit_ray import storage
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.results.export import FORMATS, ExportOptions, export_run
from pfit_ray.rundir.directory import RunDirectory


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
    assert validate(yaml.safe_load(card.partition("```yaml")[2].partition("```")[0])) == finished.config


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
        (ExportOptions("yolo"), "export: there is no format 'yolo'; choose from voc, coco, labelme, cvat, png, hf"),
        (ExportOptions("png", kind="cam"), "there is no map 'cam' to export; choose from pseudo_label, prediction"),
        (ExportOptions("png", split="../x"), "the split '../x' names files; take letters, digits, '_' and '-' only"),
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
