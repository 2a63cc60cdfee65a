import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.shards import current

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.data.sources.item import Item
from pfit_ray.errors import RowError, UserError
from pfit_ray.results import contact_sheet as sheet_module
from pfit_ray.results.contact_sheet import contact_sheet, write_sheets
from pfit_ray.results.drawing import Tile
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks.encode import EncodeStage
from pfit_ray.tasks.write import ShardWriter

SIZE = (8, 12)
SEED_TILES = [
    "CAM",
    "regions, slic",
    "regions, quickshift",
    "perimeters, slic",
    "perimeters, quickshift",
    "fit mask, slic",
    "fit mask, quickshift",
    "combined CAM",
    "affinity label (pale: unsure)",
]
LABEL_TILES = ["edge", "random walk", "pseudo label"]
KEYS = {"one": [1], "none": [], "two": [1, 2]}


def config(**fields: Any) -> RunConfig:
    data = {"source": "folder", "root": "images", "classes": ["cat", "dog"]}
    return validate({"output": "run", "data": data, **fields})


def result(image_id: str, pass_name: str) -> dict[str, Any]:
    """What the stages of a pass made of an image."""
    keys = KEYS[image_id]
    maps = np.full((len(keys), 2, 3), 0.5, dtype=np.float32)
    masks = np.ones((len(keys), *SIZE), dtype=bool)
    regions = np.zeros(SIZE, dtype=np.uint8)
    regions[:, 6:] = 1
    label = (regions * (keys[-1] if keys else 0)).astype(np.uint8)
    row = {
        "image_id": image_id, "uri": image_id, "height": SIZE[0], "width": SIZE[1], "keys": keys, "status": "ok",
        "key_scores": [0.5] * len(keys), "labels_predicted": False, "label_scores": None,
        "cam": maps, "combined_cam": maps,
        "regions_slic": regions, "regions_quickshift": regions, "fit_mask_slic": masks, "fit_mask_quickshift": masks,
        "mask_agreement": 1.0, "cam_margin": 0.5, "foreground_share": 0.5, "affinity_label": label,
        "edge": np.zeros((2, 3), np.float32), "walk": maps, "walk_margin": 0.5, "crf_change": 0.0,
        "pseudo_label": label, "margin": 0.5, "prediction": label,
    }  # fmt: skip
    EncodeStage(pass_name, "float16").process(row)
    return row


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run that has listed the images "one", "none", "two" (with ground truth) and "broken", two a shard."""
    folder = tmp_path / "images"
    folder.mkdir()
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for image_id in KEYS:
        Image.fromarray(photo).save(folder / f"{image_id}.png")
    (folder / "broken.png").write_bytes(b"nonsense")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(folder / "two-mask.png")
    masks = {"two": str(folder / "two-mask.png")}
    items = [Item("broken", str(folder / "broken.png"), (1,))]
    items += [Item(name, str(folder / f"{name}.png"), tuple(keys), masks.get(name)) for name, keys in KEYS.items()]
    directory = RunDirectory(str(tmp_path / "run"))
    for image_set in ("train", "predict"):
        write_manifest(directory, image_set, iter(items), shard_size=2)
    return directory


def finish(run: RunDirectory, *passes: str) -> None:
    failed = {"image_id": "broken", "uri": "u", "status": "failed", "stage": "decode", "reason": "unreadable"}
    for pass_name in passes:
        writer = ShardWriter(run, pass_name)
        writer.write(0, [{**failed, "message": "damaged"}, result("one", pass_name)], {})
        writer.write(1, [result("none", pass_name), result("two", pass_name)], {})


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list, list[Tile]]]:
    """Title, legend and tiles of every sheet that is drawn."""
    drawn: list[tuple[str, list, list[Tile]]] = []
    monkeypatch.setattr(sheet_module, "compose_sheet", lambda *sheet: drawn.append(sheet) or b"png")
    return drawn


def captions(sheets: list[tuple[str, list, list[Tile]]]) -> list[str]:
    return [tile.caption for tile in sheets[-1][2]]


def test_a_sheet_is_a_png_with_everything_that_the_run_knows(run: RunDirectory) -> None:
    finish(run, "seeds", "labels", "predict")
    for image_id in KEYS:
        with Image.open(io.BytesIO(contact_sheet(config(), run, image_id))) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            assert picture.height == 70 + 4 * (8 + 22 + 10)  # 14 tiles, with ground truth 15, four in a row


@pytest.mark.parametrize(("mode", "alike"), [("fit", False), ("pool", True), ("pool_fit", False), ("none", True)])
def test_a_map_is_brightest_at_its_largest_value(run: RunDirectory, sheets: list, mode: str, alike: bool) -> None:
    finish(run, "seeds")
    contact_sheet(config(combine={"mode": mode}), run, "one")
    tiles = {tile.caption: tile.picture for tile in sheets[-1][2]}
    assert np.array_equal(tiles["combined CAM"], tiles["CAM"]) is alike


def test_tiles_grow_with_the_passes(run: RunDirectory, sheets: list) -> None:
    contact_sheet(config(), run, "one")
    assert captions(sheets) == ["photograph"]
    finish(run, "seeds")
    contact_sheet(config(), run, "one")
    assert captions(sheets) == ["photograph", *SEED_TILES]
    finish(run, "labels", "predict")
    contact_sheet(config(), run, "two")
    assert captions(sheets) == ["photograph", *SEED_TILES, *LABEL_TILES, "prediction", "ground truth"]
    assert all(tile.picture.shape == (*SIZE, 3) and tile.picture.dtype == np.uint8 for tile in sheets[-1][2])


def test_title_and_legend(run: RunDirectory, sheets: list) -> None:
    finish(run, "seeds")
    for image_id in KEYS:
        contact_sheet(config(), run, image_id)
    assert [title for title, _, _ in sheets] == ["one: cat", "none: no class", "two: cat, dog"]
    cat, dog = ("cat", (128, 0, 0)), ("dog", (0, 128, 0))
    assert [legend for _, legend, _ in sheets] == [[cat], [], [cat, dog]]


def test_predicted_labels_are_marked(run: RunDirectory, sheets: list) -> None:
    uri = str(Path(run.root).parent / "images" / "one.png")
    write_manifest(run, "train", iter([Item("broken", uri), Item("one", uri)]), shard_size=2)
    contact_sheet(config(), run, "one")
    finish(run, "seeds")
    contact_sheet(config(), run, "one")
    assert [title for title, _, _ in sheets] == ["one: no class (predicted)", "one: cat (predicted)"]


def test_perimeters_are_those_of_the_fidelity(run: RunDirectory, sheets: list) -> None:
    finish(run, "seeds")
    pictures = []
    for fidelity in ("lossless", "reference"):
        contact_sheet(config(fidelity=fidelity), run, "one")
        pictures.append(next(tile.picture for tile in sheets[-1][2] if tile.caption == "perimeters, slic"))
    assert (pictures[0][..., 0] == 0).sum() == SIZE[0]  # one black column
    assert set(np.unique(pictures[1])) <= {0, 255}
    assert not np.array_equal(*pictures)


def test_an_image_that_failed_has_its_photograph_only(run: RunDirectory, sheets: list) -> None:
    finish(run, "seeds")
    photo = (Path(run.root).parent / "images" / "one.png").read_bytes()
    (Path(run.root).parent / "images" / "broken.png").write_bytes(photo)
    contact_sheet(config(), run, "broken")
    assert captions(sheets) == ["photograph"]


def test_mistakes_are_one_sentence(run: RunDirectory) -> None:
    finish(run, "seeds")
    with pytest.raises(UserError) as caught:
        contact_sheet(config(), run, "three")
    assert str(caught.value) == f"show: {run.root} has no image 'three'; its manifest tables list the image ids"
    with pytest.raises(UserError, match=r"show: the image 'broken' cannot be read: the bytes are not a JPEG"):
        contact_sheet(config(), run, "broken")
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(Path(run.root).parent / "images" / "two-mask.png")
    with pytest.raises(UserError, match=r"show: the ground truth .*two-mask.png cannot be used: .* 1 x 1 pixels"):
        contact_sheet(config(), run, "two")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no image 'a'"):
        contact_sheet(config(), RunDirectory(str(tmp_path)), "a")


@pytest.mark.parametrize(("count", "ids"), [(0, []), (1, ["one"]), (2, ["one", "none"]), (9, ["one", "none", "two"])])
def test_sheets_of_the_first_good_images(run: RunDirectory, count: int, ids: list[str]) -> None:
    finish(run, "seeds", "labels")
    assert write_sheets(config(), run, count) == []
    assert len(list(Path(run.url("sheets")).glob("*"))) == len(ids)
    for image_id in ids:
        assert storage.read_bytes(run.url("sheets", f"{image_id}.png")) == contact_sheet(config(), run, image_id)


def test_an_unusable_mask_does_not_stop_the_sheets(run: RunDirectory) -> None:
    finish(run, "seeds")
    (Path(run.root).parent / "images" / "two-mask.png").write_bytes(b"nonsense")
    (problem,) = write_sheets(config(passes=["seeds"]), run, 3)
    assert problem.startswith("no contact sheet of two: show: the ground truth ")
    assert {path.name for path in Path(run.url("sheets")).iterdir()} == {"one.png", "none.png"}


@pytest.mark.parametrize("damage", ["tar", "rows", "time-out"])
def test_a_damaged_shard_does_not_stop_the_sheets(
    run: RunDirectory, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(run, "seeds", "labels")
    tar, rows = (Path(current(run, "labels", kind, 1)) for kind in ("labels", "rows"))
    if damage == "tar":
        tar.write_bytes(tar.read_bytes()[:600])
    elif damage == "rows":
        rows.unlink()
    else:
        fetch = storage.fetch

        def late(url: str, *place: int) -> bytes:
            if url == str(tar):
                raise RowError("timeout", "did not come in time")
            return fetch(url, *place)

        monkeypatch.setattr(storage, "fetch", late)
    problems = write_sheets(config(), run, 3)
    assert [problem.partition(":")[0] for problem in problems if "sheets of pass" not in problem] == [
        "no contact sheet of none", "no contact sheet of two"
    ]  # fmt: skip
    assert {path.name for path in Path(run.url("sheets")).iterdir()} == {"one.png"}
    with pytest.raises(UserError, match=r"show: the results of 'two'|shard 1 is finished"):
        contact_sheet(config(), run, "two")


def test_an_image_that_has_another_size_now_is_said_in_one_sentence(run: RunDirectory, tmp_path: Path) -> None:
    finish(run, "predict")
    Image.new("RGB", (20, 9)).save(tmp_path / "images" / "one.png")
    with pytest.raises(UserError, match=r"'one' cannot be read: .* 20 x 9"):
        contact_sheet(config(), run, "one")
