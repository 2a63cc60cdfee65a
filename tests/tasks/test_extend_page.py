"""The classes of docs/extend.md work in whole passes, and a backbone of one's own in all three networks."""

import doctest
import importlib
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image
from support.places import REPOSITORY
from support.shards import current

from pfit_ray.data.images import decode_grey
from pfit_ray.data.region_sources import make_region_source
from pfit_ray.data.sources.item import Item
from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.deeplab import DeepLabV3Plus
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks import passes
from pfit_ray.tasks.base import run_stages
from pfit_ray.tasks.passes import plan_pass
from pfit_ray.tasks.results import RESULT_FIELDS

TEXT = (REPOSITORY / "docs" / "extend.md").read_text(encoding="utf-8")
MODULES = re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[number]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's modules as an installed package with the page's entry points."""
    folder = tmp_path / "site"
    info = folder / "own-1.0.dist-info"
    info.mkdir(parents=True)
    for name, code in MODULES:
        (folder / f"{name}.py").write_text(code)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    groups = tomllib.loads(block("toml"))["project"]["entry-points"]
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {at}\n" for name, at in names.items()) for group, names in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    for name, _ in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def listed(tmp_path: Path, run: RunDirectory, photo: np.ndarray) -> RunDirectory:
    """One shard of a photograph with a label, one without, and a flat image."""
    pictures = {"photo": (photo, (1, 2)), "unlabelled": (photo[::-1], None), "flat": (np.full_like(photo, 90), (1,))}
    items = []
    for name, (picture, keys) in pictures.items():
        path = tmp_path / f"{name}.png"
        Image.fromarray(picture).save(path)
        items.append(Item(name, str(path), keys))
    write_manifest(run, "train", iter(items), shard_size=16)
    return run


def test_the_page_has_all_modules() -> None:
    assert [name for name, _ in MODULES] == ["own_regions", "own_cams", "sharpness_stage"]


def test_sources_and_stage_in_a_whole_pass(
    package: None, listed: RunDirectory, make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = yaml.safe_load(block("yaml"))
    fields["regions"]["uss"] = {"max_iterations": 2}
    config = make_config(**fields)
    monkeypatch.setitem(RESULT_FIELDS, "seeds", [*RESULT_FIELDS["seeds"], ("sharpness", pa.float32())])
    stage = importlib.import_module("sharpness_stage").SharpnessStage(minimum=1.0)
    with pytest.raises(RuntimeError, match="stage encode reads the column 'sharpness'"):
        plan_pass("seeds", config, listed)
    fit_stages = passes._fit_stages
    monkeypatch.setattr(passes, "_fit_stages", lambda config: [stage, *fit_stages(config)])
    fetch, network, finish = plan_pass("seeds", config, listed).operators(config, listed)
    summary = finish(network(fetch({"shard": 0})))
    assert (summary["ok"], summary["failed"]) == (2, 1)
    failed = pd.read_parquet(current(listed, "seeds", "failures", 0)).set_index("image_id")
    assert failed.loc["flat", ["stage", "reason"]].tolist() == ["sharpness", "unreadable"]
    assert failed.loc["flat", "message"] == "sharpness 0.0 is below 1.0"
    rows = pd.read_parquet(current(listed, "seeds", "rows", 0)).set_index("image_id")
    assert rows.loc["photo", "sharpness"] > 1
    regions = decode_grey(rows.loc["photo", "regions_watershed"])
    assert 20 < len(np.unique(regions)) <= 400
    assert {"regions_slic", "regions_coarse", "fit_mask_coarse"} <= set(rows)
    assert list(rows.loc["photo", "keys"]) == [1, 2]
    assert rows.loc["unlabelled", "labels_predicted"]


def test_the_cam_is_where_the_colour_is(package: None) -> None:
    source = importlib.import_module("own_cams").ColourCam(colours={1: (250, 0, 0), 2: (0, 0, 250)})
    source.setup()
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 250, 0, 0
    found = source.cam(image, "red", None)
    assert list(found.keys) == [1]
    np.testing.assert_allclose(found.maps[0], [[1, 1], [0, 0]], atol=1e-6)


def test_an_option_that_is_none_is_one_sentence(package: None, make_config) -> None:
    config = make_config(regions={"sources": [{"kind": "watershed", "options": {"marks": 3}}]})
    with pytest.raises(UserError, match="'watershed' does not take its options"):
        make_region_source(config.regions, config.regions.sources[0])


def test_the_stage_alone(package: None) -> None:
    stage = importlib.import_module("sharpness_stage").SharpnessStage()
    image = np.zeros((3, 3, 3), np.uint8)
    image[1, 1] = 9
    row = {"image_id": "dot", "image": image, "status": "ok"}
    run_stages([stage], [row])
    # Borders are mirrored without their edge: corners 0, sides 9 or 18 on both axes.
    grey = np.pad(image[..., 0].astype(float), 1, mode="reflect")
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    assert row["sharpness"] == pytest.approx(laplacian.var())


def test_a_backbone_of_ones_own_carries_all_networks() -> None:
    importlib.import_module("support.own_backbone")
    name, image = "resnet10_thin", torch.zeros(1, 3, 64, 64)
    networks = CamClassifier(name, 2), AffinityNet(name), DeepLabV3Plus(name, 3, group_norm=True)
    with torch.inference_mode():
        shapes = [tuple(network.eval()(image).shape) for network in networks]
    assert shapes == [(1, 2, 4, 4), (1, 1, 16, 16), (1, 3, 64, 64)]
    assert normalisation(networks[0].backbone)[0] == (0.485, 0.456, 0.406)


def test_examples_of_backbones() -> None:
    examples = doctest.DocTestParser().get_doctest(TEXT, {}, "extend.md", "extend.md", 0)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner(verbose=False).run(examples, out=said.append)
    assert failed == 0, "".join(said)
    assert tried == 3
