"""A region source and a CAM source of one file each, outside the package, in whole passes."""

import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.shards import current
from support.tiny_models import write_clip, write_sam

from pfit_ray.config import Pass, RunConfig, resolved_yaml
from pfit_ray.data import plugins
from pfit_ray.data.images import decode_grey, encode_grey
from pfit_ray.data.sources.item import Item
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.environment import check_packages, describe_environment
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.rundir.provenance import describe, provenance
from pfit_ray.tasks.encode import array_bytes, array_from_bytes
from pfit_ray.tasks.passes import plan_pass

STRIPES = '''
import numpy as np
from pfit_ray.data.region_sources import RegionSource


class Stripes(RegionSource):
    """Upright stripes, more than a byte can number where they are thin."""

    def __init__(self, *, width: int = 4) -> None:
        self.width = width

    def setup(self) -> None:
        self.ready = True

    def regions(self, image, image_id):
        assert self.ready
        height, width = image.shape[:2]
        return np.tile(np.arange(width) // self.width * 1000, (height, 1))
'''
BRIGHT = '''
import numpy as np
from pfit_ray.data.cam_sources import CamMaps, CamSource
from pfit_ray.errors import RowError


class Bright(CamSource):
    """Every class is where the image is bright."""

    def __init__(self, *, channel: int = 0) -> None:
        self.channel = channel

    def setup(self) -> None:
        self.ready = True

    def cam(self, image, image_id, keys):
        assert self.ready
        if image.shape[0] < 5:
            raise RowError("bad_cam", "too low to see anything")
        found = [2] if keys is None else keys
        return CamMaps(found, np.stack([image[..., self.channel] / 255] * len(found)), [0.5] * len(found))
'''
ENTRY_POINTS = """
[pfit_ray.region_sources]
stripes = own_stripes:Stripes
broken = own_stripes:Nothing
number = own_stripes:np.pi

[pfit_ray.cam_sources]
bright = own_bright:Bright
"""
OWN = {
    "cam": {"source": "bright", "options": {"channel": 2}},
    "combine": {"mode": "pool"},
    "regions": {
        "sources": [
            {"kind": "stripes", "options": {"width": 5}},
            {"kind": "stripes", "name": "merged", "uss": True},
            {"kind": "felzenszwalb", "options": {"min_size": 20}},
        ],
        "uss": {"max_iterations": 2},
    },
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as pip leaves it behind, with an installed package of two modules."""
    folder = tmp_path / "site"
    info = folder / "own_sources-1.2.dist-info"
    info.mkdir(parents=True)
    (folder / "own_stripes.py").write_text(STRIPES)
    (folder / "own_bright.py").write_text(BRIGHT)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-sources\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    for name in ("own_stripes", "own_bright"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


@pytest.fixture
def listed(tmp_path: Path, run: RunDirectory, photo: np.ndarray) -> RunDirectory:
    """One shard of four images, one of which the CAM source cannot work on."""
    folder = tmp_path / "images"
    folder.mkdir()
    pictures = {
        "photo": (photo, (1, 2)),
        "unlabelled": (photo[::-1], None),
        "plain": (photo, ()),
        "low": (photo[:3], (1,)),
    }
    for name, (picture, _) in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    items = [Item(name, str(folder / f"{name}.png"), keys) for name, (_, keys) in pictures.items()]
    write_manifest(run, "train", iter(items), shard_size=16)
    return run


def run_pass(name: Pass, config: RunConfig, run: RunDirectory) -> dict[str, int]:
    fetch, network, finish = plan_pass(name, config, run).operators(config, run)
    told = finish(network(fetch({"shard": 0})))
    return {name: told[name] for name in ("shard", "ok", "failed", "skipped")}


def table(run: RunDirectory, name: str, kind: str = "rows") -> pd.DataFrame:
    return pd.read_parquet(current(run, name, kind, 0)).set_index("image_id")


def test_whole_passes_with_sources_of_another_package(package: Path, listed: RunDirectory, make_config) -> None:
    config = make_config(**OWN, walk={"source": "combined_cam", "exp_times": 2})
    check_packages(config)
    assert run_pass("seeds", config, listed) == {"shard": 0, "ok": 3, "failed": 1, "skipped": 0}
    seeds, failures = table(listed, "seeds"), table(listed, "seeds", "failures")
    assert failures.loc["low", ["stage", "reason"]].tolist() == ["cam", "bad_cam"]
    assert [name for name in seeds if name.startswith(("regions_", "fit_mask_"))] == [
        "regions_stripes", "regions_merged", "regions_felzenszwalb",
        "fit_mask_stripes", "fit_mask_merged", "fit_mask_felzenszwalb",
    ]  # fmt: skip
    photo = seeds.loc["photo"]
    stripes = decode_grey(photo["regions_stripes"])
    np.testing.assert_array_equal(stripes, np.tile(np.arange(37) // 5, (30, 1)))
    assert decode_grey(photo["regions_merged"]).shape == (30, 37)
    assert decode_grey(photo["fit_mask_felzenszwalb"]).shape == (60, 37)
    assert array_from_bytes(photo["combined_cam"]).shape == (2, 8, 10)
    assert list(photo["key_scores"]) == [0.5, 0.5]
    assert list(seeds.loc["unlabelled", "keys"]) == [2]
    assert seeds.loc["unlabelled", "labels_predicted"]
    assert 0 <= photo["mask_agreement"] <= 1
    assert run_pass("labels", config, listed)["ok"] == 3


def test_one_source_of_stripes_gives_the_mean_of_each_stripe(package: Path, listed: RunDirectory, make_config) -> None:
    regions = {"sources": [{"kind": "stripes", "options": {"width": 1}}]}
    config = make_config(**{**OWN, "regions": regions})
    (stage,) = [stage for stage in plan_pass("seeds", config, listed).finish if stage.name == "combine"]
    rng = np.random.default_rng(0)
    row = {"cam": np.zeros((1, 3, 3), np.float32), "hr_cam": rng.random((1, 12, 12)).astype(np.float32)}
    row |= {"regions_stripes": np.tile(np.arange(12, dtype=np.uint8), (12, 1)), "fit_mask_stripes": row["hr_cam"] > 2}
    stage.process(row)
    means = np.broadcast_to(row["hr_cam"].mean(axis=1, keepdims=True), (1, 12, 12))
    np.testing.assert_allclose(row["combined_hr_cam"], means, rtol=1e-5)


def test_files_made_elsewhere(listed: RunDirectory, make_config, tmp_path: Path, photo: np.ndarray) -> None:
    masks, maps = tmp_path / "masks", tmp_path / "maps"
    masks.mkdir()
    maps.mkdir()
    halves = np.zeros((30, 37), dtype=np.uint16)
    halves[:, 20:] = 40_000
    for name in ("photo", "plain"):
        (masks / f"{name}.png").write_bytes(encode_grey(halves))
    (masks / "unlabelled.png").write_bytes(b"nonsense")
    cams = np.ones((2, 5, 6), dtype=np.float32)
    cams[0, :, 3:] = 0
    for name in ("photo", "plain", "unlabelled"):
        np.savez(maps / f"{name}.npz", keys=np.array([1, 2]), cam=cams)
    source = {"kind": "external", "name": "sam", "options": {"url": str(masks)}}
    config = make_config(
        cam={"source": "external", "options": {"url": str(maps)}},
        regions={"sources": [source]},
        combine={"mode": "pool_fit"},
    )
    assert run_pass("seeds", config, listed)["failed"] == 2
    failures = table(listed, "seeds", "failures")
    assert failures[["stage", "reason"]].to_dict("index") == {
        "low": {"stage": "cam", "reason": "missing"},
        "unlabelled": {"stage": "regions_sam", "reason": "bad_regions"},
    }
    seeds = table(listed, "seeds")
    np.testing.assert_array_equal(decode_grey(seeds.loc["photo", "regions_sam"]), halves // 40_000)
    assert seeds.loc["photo", "key_scores"] is None
    np.testing.assert_array_equal(array_from_bytes(seeds.loc["photo", "cam"]).shape, (2, 8, 10))
    assert seeds.loc["plain", "foreground_share"] == 0


def test_seeds_of_one_run_are_the_cams_of_another(listed: RunDirectory, make_config, tmp_path: Path) -> None:
    plain = make_config(combine={"mode": "none"}, cam={"scales": [1.0], "stored_as": "float32"})
    run_pass("seeds", plain, listed)
    first = table(listed, "seeds")
    assert "regions_slic" not in first
    assert first["mask_agreement"].isna().all()
    rows = tmp_path / "rows"
    rows.mkdir()
    Path(current(listed, "seeds", "rows", 0)).rename(rows / "0.parquet")
    again = make_config(cam={"source": "external", "options": {"url": f"{rows}/*.parquet"}, "stored_as": "float32"})
    run_pass("seeds", again, listed)
    second = table(listed, "seeds")
    for image_id in first.index:
        assert list(first.loc[image_id, "keys"]) == list(second.loc[image_id, "keys"])
        found = [array_from_bytes(one.loc[image_id, "cam"]) for one in (first, second)]
        np.testing.assert_allclose(*found, atol=2e-3)  # each class is divided by its maximum once more
    assert array_bytes(found[0])[:6] == b"\x93NUMPY"


def test_foundation_models_in_whole_passes(listed: RunDirectory, make_config, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason='transformers is not installed: pip install "pfit-ray[foundation]"')
    sam = {"model": str(write_sam(tmp_path / "sam")), "points_per_side": 4, "min_iou": 0.0, "min_stability": 0.0}
    clip = {"model": str(write_clip(tmp_path / "clip")), "side": 32, "min_score": 0.01}
    config = make_config(
        cam={"source": "clip", "options": clip},
        regions={"sources": ["slic", {"kind": "sam", "options": sam}]},
        combine={"mode": "pool_fit"},
        walk={"exp_times": 2},
        resources={"network": {"batch_size": 4}},
    )
    check_packages(config)
    plan = plan_pass("seeds", config, listed)
    assert [stage.name for stage in plan.network] == ["decode", "cam", "regions_sam"]  # where the GPU is
    assert run_pass("seeds", config, listed) == {"shard": 0, "ok": 4, "failed": 0, "skipped": 0}
    seeds = table(listed, "seeds")
    assert decode_grey(seeds.loc["photo", "regions_sam"]).shape == (30, 37)
    assert list(seeds.loc["photo", "keys"]) == [1, 2]
    assert len(seeds.loc["photo", "key_scores"]) == 2
    assert array_from_bytes(seeds.loc["photo", "cam"]).shape == (2, 8, 10)
    assert seeds.loc["unlabelled", "labels_predicted"]
    assert len(seeds.loc["plain", "keys"]) == 0
    assert run_pass("labels", config, listed)["ok"] == 4


def test_what_a_run_records_of_its_sources(package: Path, run: RunDirectory, make_config) -> None:
    config = make_config(**OWN)
    assert describe_environment(config)["plugins"] == {"stripes": "own-sources 1.2", "bright": "own-sources 1.2"}
    assert describe_environment(make_config())["plugins"] == {}
    entry = provenance(config, run)["pseudo_label"]
    assert entry["cam_source"] == "bright"
    assert entry["combine"]["mode"] == "pool"
    assert entry["combine"]["regions"]["merged"] == {"kind": "stripes", "uss": True, "options": {}}
    assert "CAM from bright; combine pool of stripes, merged, felzenszwalb" in describe("pseudo_label", entry)
    entry = provenance(make_config(combine={"mode": "none"}), run)["combined_cam"]
    assert "fidelity lossless; combine none; threshold" in describe("combined_cam", entry)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("waves", "which is none of broken, external, features, felzenszwalb, number, quickshift, sam, slic, stripes"),
        ("broken", "own_stripes:Nothing of own-sources 1.2 cannot be imported: AttributeError"),
        ("number", "own_stripes:np.pi of own-sources 1.2 is not a class"),
    ],
)
def test_a_source_that_is_not_there(package: Path, make_config, kind: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_packages(make_config(regions={"sources": [kind]}))
    assert message in str(caught.value)


def test_two_packages_with_one_name(package: Path, make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = plugins._registered("pfit_ray.region_sources", "stripes") * 2
    monkeypatch.setattr(plugins, "_registered", lambda group, name: twice)
    with pytest.raises(UserError, match=r"own-sources 1.2 and own-sources 1.2 both register; uninstall one of them"):
        check_packages(make_config(regions={"sources": ["stripes"]}))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_on_ray_takes_them(package: Path, listed: RunDirectory, make_config, tmp_path: Path) -> None:
    """Workers are other processes; they find the package as any installed one."""
    labels = tmp_path / "labels.csv"
    labels.write_text("image,classes\nphoto,one two\nplain,\n")
    data = {"source": "folder", "root": str(tmp_path / "images"), "labels": str(labels), "classes": ["one", "two"]}
    config = make_config(**OWN, output=str(tmp_path / "other"), data=data, passes=["seeds"], sheets=1)
    file = tmp_path / "run.yaml"
    file.write_text(resolved_yaml(config))
    path = os.pathsep.join([str(package), *filter(None, sys.path)])
    said = subprocess.run(
        [sys.executable, "-c", "from pfit_ray.cli.app import main; main()", "run", str(file), "max_failed_fraction=1"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said
    seeds = table(RunDirectory(str(tmp_path / "other")), "seeds")
    assert sorted(seeds.index) == ["photo", "plain"]
    sheet = tmp_path / "other" / "sheets" / "photo.png"
    with Image.open(io.BytesIO(sheet.read_bytes())) as picture:
        assert picture.width > 600
    assert not (tmp_path / "other" / "checkpoints").exists()
