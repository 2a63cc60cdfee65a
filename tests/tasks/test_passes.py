"""The chains of all passes, run by hand from image files to shards that plain readers understand."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ray import cloudpickle
from support.shards import current

from pfit_ray.config import Pass, RunConfig
from pfit_ray.constants import Row
from pfit_ray.data.images import decode_image, encode_grey
from pfit_ray.data.sources.item import Item
from pfit_ray.rundir.directory import LABEL_COLUMN, RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks import operators
from pfit_ray.tasks.base import Stage, run_stages
from pfit_ray.tasks.fetch import SeedMaps
from pfit_ray.tasks.operators import FusedOperator
from pfit_ray.tasks.passes import PassPlan, plan_pass

KEYS = {"photo": (1, 2), "plain": (), "pixel": (2,), "line": (1,), "pixel_plain": (), "predicted": None}


@pytest.fixture
def listed(tmp_path: Path, run: RunDirectory, photo: np.ndarray) -> RunDirectory:
    """One shard: images of every shape, with and without classes; a broken file, one that is missing, a double."""
    pictures = {
        "photo": photo,
        "plain": photo[:20, :24],
        "pixel": photo[:1, :1],
        "line": photo[:1, :9],
        "pixel_plain": photo[1:2, 1:2],
        "predicted": photo[4:24, 4:20],
    }
    folder = tmp_path / "images"
    folder.mkdir()
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG nonsense")
    items = [Item(name, str(folder / f"{name}.png"), keys) for name, keys in KEYS.items()]
    items.insert(2, Item("broken", str(folder / "broken.png"), (1,)))
    items += [Item("gone", str(folder / "gone.png"), (1,)), Item("photo", str(folder / "pixel.png"), (1,))]
    for image_set in ("train", "predict"):
        write_manifest(run, image_set, iter(items), shard_size=16)
    return run


def run_pass(name: Pass, config: RunConfig, run: RunDirectory) -> dict[str, int]:
    fetch, network, finish = plan_pass(name, config, run).operators(config, run)
    told = finish(network(fetch({"shard": 0})))
    return {name: told[name] for name in ("shard", "ok", "failed", "skipped")}


def files(run: RunDirectory, name: str) -> dict[str, bytes]:
    folder = Path(run.url(name))
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def labels(run: RunDirectory, name: str) -> dict[str, np.ndarray]:
    with tarfile.open(current(run, name, "labels", 0)) as archive:
        return {
            member.name.removesuffix(".png"): np.array(Image.open(io.BytesIO(archive.extractfile(member).read())))
            for member in archive
        }


@pytest.mark.parametrize("fidelity", ["lossless", "reference"])
def test_all_passes_by_hand(listed: RunDirectory, make_config, fidelity: str) -> None:
    config = make_config(fidelity=fidelity, network_engine=None, predicted_labels={"threshold": 0.0, "top_k": 1})
    for name in ("seeds", "labels", "predict"):
        assert run_pass(name, config, listed) == {"shard": 0, "ok": 6, "failed": 3, "skipped": 0}
        rows = pd.read_parquet(current(listed, name, "rows", 0)).set_index("image_id")
        assert list(rows.index) == list(KEYS)
        maps = labels(listed, name)
        assert list(maps) == list(KEYS)
        for image_id, row in rows.iterrows():
            assert maps[image_id].shape == (row["height"], row["width"])
            assert set(np.unique(maps[image_id])) <= {0, 255, *row["keys"]}
            if name != "predict" and KEYS[image_id] is not None:
                assert tuple(row["keys"]) == KEYS[image_id]
        for image_id in ("plain", "pixel_plain"):
            assert name == "predict" or not maps[image_id].any()
    seeds = pd.read_parquet(current(listed, "seeds", "rows", 0)).set_index("image_id")
    assert seeds["labels_predicted"].to_dict() == {name: keys is None for name, keys in KEYS.items()}
    assert len(seeds.loc["predicted", "keys"]) == 1
    assert np.load(io.BytesIO(seeds.loc["photo", "cam"])).shape == (2, 8, 10)
    assert np.load(io.BytesIO(seeds.loc["plain", "cam"])).shape == (0, 5, 6)
    stored = np.float16 if fidelity == "lossless" else np.float32
    assert np.load(io.BytesIO(seeds.loc["pixel", "cam"])).dtype == stored
    assert seeds.loc["plain", "fit_mask_slic"] == b""
    assert Image.open(io.BytesIO(seeds.loc["photo", "fit_mask_slic"])).size == (37, 2 * 30)
    assert Image.open(io.BytesIO(seeds.loc["line", "regions_quickshift"])).size == (9, 1)


def test_failures_of_every_pass_say_where_and_why(listed: RunDirectory, make_config) -> None:
    config = make_config()
    for name in ("seeds", "labels"):
        run_pass(name, config, listed)
    seeds = pd.read_parquet(current(listed, "seeds", "failures", 0))
    assert seeds[["image_id", "pass", "stage", "reason"]].to_numpy().tolist() == [
        ["broken", "seeds", "decode", "unreadable"],
        ["gone", "seeds", "fetch", "missing"],
        ["photo", "seeds", "source", "bad_id"],
    ]
    upstream = pd.read_parquet(current(listed, "labels", "failures", 0))
    assert upstream[["image_id", "pass", "stage", "reason"]].to_numpy().tolist() == [
        ["broken", "labels", "seeds", "upstream"],
        ["gone", "labels", "seeds", "upstream"],
        ["photo", "labels", "source", "bad_id"],
    ]
    assert upstream["message"][0] == "pass seeds failed for this image; see its failures table"
    assert upstream["message"][2] == "image id 'photo' occurs twice in the source; the first image keeps it"
    marker = listed.finished_shards("seeds")[0]
    assert marker["reasons"] == {"unreadable": 1, "missing": 1, "bad_id": 1}
    assert list(marker["stages"]) == [
        "fetch", "decode", "cam", "hr_cam", "regions_slic", "regions_quickshift", "perimeter", "fit", "combine",
        "affinity_label", "encode", "write",
    ]  # fmt: skip


def test_a_second_run_writes_the_same_bytes(listed: RunDirectory, make_config) -> None:
    config = make_config()
    for name in ("seeds", "labels", "predict"):
        run_pass(name, config, listed)
        first = files(listed, name)
        run_pass(name, config, listed)
        second = files(listed, name)
        assert len(first) == 4
        assert first.pop("done/00000.json") != second.pop("done/00000.json")
        assert first == second


def test_an_image_comes_out_the_same_beside_other_images(listed: RunDirectory, make_config) -> None:
    LISTS = ("keys", "key_scores", "label_ids", "label_pixels")  # noqa: N806

    def seeds_of_photo() -> dict:
        run_pass("seeds", make_config(), listed)
        table = pd.read_parquet(current(listed, "seeds", "rows", 0)).set_index("image_id")
        record = table.drop(columns=["label_file", "label_offset"]).loc["photo"].to_dict()
        return record | {name: list(record[name]) for name in LISTS}

    first, label = seeds_of_photo(), labels(listed, "seeds")["photo"]
    items = [
        Item(name, str(Path(listed.root).parent / "images" / f"{name}.png"), KEYS[name]) for name in ("line", "photo")
    ]
    write_manifest(listed, "train", iter(items), shard_size=16)
    assert seeds_of_photo() == first
    np.testing.assert_array_equal(labels(listed, "seeds")["photo"], label)


def test_chains_follow_the_config(run: RunDirectory, make_config) -> None:
    config = make_config(fidelity="reference", fit={"fidelity": "lossless"}, walk={"source": "combined_cam"})
    seeds = plan_pass("seeds", config, run)
    assert [stage.name for stage in seeds.network] == ["decode", "cam"]
    by_name = {stage.name: stage for stage in seeds.finish}
    assert by_name["hr_cam"].crop is True
    assert by_name["regions_slic"].reference is True
    assert (by_name["perimeter"].reference, by_name["fit"].reference) == (False, False)
    assert by_name["affinity_label"].crf.engine == "pydensecrf"
    labels_plan = plan_pass("labels", config, run)
    assert labels_plan.finish[-2].crf.engine == "pydensecrf"
    assert labels_plan.upstream == SeedMaps(run, "combined_cam", work=labels_plan.work)
    assert [stage.name for stage in labels_plan.network] == ["decode", "edge"]
    assert [stage.name for stage in labels_plan.finish] == ["walk", "pseudo_label", "encode"]
    pooled = plan_pass("labels", make_config(), run)
    assert pooled.upstream == SeedMaps(run, "cam", ("slic", "quickshift"), work=pooled.work)
    assert [stage.name for stage in pooled.finish] == ["walk", "pool_walk", "pseudo_label", "encode"]
    predict = plan_pass("predict", config, run)
    assert predict.upstream is None
    assert predict.finish[-2].crf.engine == "pydensecrf"
    assert plan_pass("predict", make_config(), run).finish[-2].crf.engine == "native"
    assert [stage.name for stage in (*predict.network, *predict.finish)] == [
        "decode", "predict", "prediction", "encode",
    ]  # fmt: skip
    assert LABEL_COLUMN == {"seeds": "affinity_label", "labels": "pseudo_label", "predict": "prediction"}


def test_cams_of_the_reference_are_never_less_precise(listed: RunDirectory, make_config) -> None:
    for fidelity, precision in (("lossless", "bfloat16"), ("reference", "float32")):
        config = make_config(fidelity=fidelity, cam={"precision": "bfloat16"})
        assert plan_pass("seeds", config, listed).network[1].config.precision == precision


def test_finishing_does_not_import_torch(run: RunDirectory, make_config, tmp_path: Path) -> None:
    names: tuple[Pass, ...] = ("seeds", "labels", "predict")
    finishes = [plan_pass(name, make_config(), run).operators(make_config(), run)[2] for name in names]
    (tmp_path / "finishes").write_bytes(cloudpickle.dumps(finishes))
    program = """
import pickle, sys
for finish in pickle.loads(open(sys.argv[1], "rb").read()):
    finish.chain.prepare()
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "finishes"], check=False)
    assert done.returncode == 0


def test_regions_of_the_network_s_features_come_with_the_cam(listed: RunDirectory, make_config) -> None:
    sources = [{"kind": "features", "options": {"cuts": [2, 5]}}]
    config = make_config(
        regions={"sources": sources, "slic": {"n_segments": 20}}, combine={"mode": "pool", "rounds": 2},
        predicted_labels={"threshold": 0.0, "top_k": 1},
    )  # fmt: skip
    plan = plan_pass("seeds", config, listed)
    assert [stage.name for stage in plan.network] == ["decode", "cam", "regions_features"]
    for name in ("seeds", "labels"):
        assert run_pass(name, config, listed) == {"shard": 0, "ok": 6, "failed": 3, "skipped": 0}
    rows = pd.read_parquet(current(listed, "seeds", "rows", 0)).set_index("image_id")
    columns = [f"regions_features_{kind}_{cut}" for kind in ("slic", "quickshift") for cut in (2, 5)]
    assert [name for name in rows.columns if name.startswith("regions_")] == columns
    maps = [np.array(Image.open(io.BytesIO(rows.loc["photo", name]))) for name in columns]
    assert [one.shape for one in maps] == [(30, 37)] * 4
    assert [int(one.max()) + 1 for one in maps] == [2, 5, 2, 5]
    plain = make_config(regions={"slic": {"n_segments": 20}, "uss": {"max_iterations": 2}})
    cam = rows.loc["photo", "cam"]
    run_pass("seeds", plain, listed)
    assert pd.read_parquet(current(listed, "seeds", "rows", 0)).set_index("image_id").loc["photo", "cam"] == cam


def encode_image(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class Noted(dict):
    """A row that notes which of its columns are read and which are set."""

    def __init__(self, row: Row) -> None:
        super().__init__(row)
        self.read: set[str] = set()
        self.written: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.written.add(name)
        super().__setitem__(name, value)

    def pop(self, name: str, *default: Any) -> Any:
        self.read.add(name)
        return super().pop(name, *default)

    def update(self, *others: Row, **columns: Any) -> None:
        for row in (*others, columns):
            self.written.update(row)
            super().update(row)


@pytest.mark.parametrize("fields", [{}, {"fidelity": "reference"}, {"combine": {"mode": "pool_fit"}}])
def test_stages_read_and_add_what_they_say(
    run: RunDirectory, photo: np.ndarray, make_config, fields: dict[str, Any]
) -> None:
    config = make_config(**fields)
    source = {"image_id": "photo", "uri": "u", "keys": [1, 2], "status": "ok", "encoded": encode_image(photo)}
    earlier: Row = {}
    for name in ("seeds", "labels", "predict"):
        plan = plan_pass(name, config, run)
        row = Noted(source | (earlier if name == "labels" else {}))
        for stage in (*plan.network, *plan.finish):
            if stage.name == "encode" and name == "seeds":
                regions = {column: encode_grey(row[column]) for column in ("regions_slic", "regions_quickshift")}
                earlier = {"seed_cam": row["cam"], **regions}
            stage.setup()
            row.read, row.written = set(), set()
            run_stages([stage], [row])
            assert row["status"] == "ok", row["message"]
            kept = {column for column in stage.adds if column.startswith("components_")}  # found by whoever needs them
            assert row.read - row.written - {"status"} <= {*stage.reads, *kept}, stage.name
            made = row.written - (set(stage.reads) | {"status"} if stage.name == "encode" else set())
            assert made <= set(stage.adds) <= set(row), stage.name


def test_a_column_that_nothing_adds_is_found_when_the_pass_is_planned(run: RunDirectory, make_config) -> None:
    plan = plan_pass("seeds", make_config(), run)
    without = [stage for stage in plan.finish if stage.name != "combine"]
    with pytest.raises(RuntimeError, match=r"pass seeds: stage affinity_label reads .* 'combined_hr_cam'"):
        PassPlan("seeds", plan.network, without)

    class Silent(Stage):
        name = "silent"

        def process(self, row: Row) -> None:
            """Adds who knows what."""

    PassPlan("seeds", plan.network, [Silent(), *without])


@pytest.mark.parametrize("batch_size", [1, 4])
def test_one_worker_for_both_chains_decodes_once_and_writes_the_same(
    listed: RunDirectory, make_config, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    config = make_config(resources={"network": {"batch_size": batch_size}})
    decoded: list[bytes] = []
    monkeypatch.setattr(operators, "decode_image", lambda data, most: decoded.append(data) or decode_image(data, most))
    for name in ("seeds", "labels", "predict"):
        counts = []
        for fused in (False, True):
            decoded.clear()
            fetch, network, finish = plan_pass(name, config, listed).operators(config, listed)
            fetched = fetch({"shard": 0})
            told = FusedOperator(network, finish)(fetched) if fused else finish(network(fetched))
            counts.append((told["ok"], told["failed"], len(decoded)))
            if not fused:
                apart = files(listed, name)
            marker = listed.finished_shards(name)[0]
            assert marker["stages"]["decode"]["images"] == (7 if name != "labels" else 6)
        together = files(listed, name)
        assert apart.pop("done/00000.json") != together.pop("done/00000.json")
        assert apart == together
        tries = 7 if name != "labels" else 6
        assert counts == [(6, 3, tries + 6), (6, 3, tries)]
