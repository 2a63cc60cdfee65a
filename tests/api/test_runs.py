import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.export_run import ExportRun, write_run, write_shard

import pfit_ray as pf
from pfit_ray import storage
from pfit_ray.errors import RowError, UserError
from pfit_ray.storage import drivers


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ExportRun:
    return write_run(tmp_path_factory.mktemp("api"))


def test_import_is_light() -> None:
    code = "import sys, pfit_ray as pf; dir(pf); pf.Run; print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


def test_names() -> None:
    assert set(pf.__all__) <= set(dir(pf))
    assert all(getattr(pf, name) is not None for name in pf.__all__)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        pf.runn  # noqa: B018


def test_labels_without_ray(finished: ExportRun) -> None:
    run = pf.open(finished.directory.root)
    assert run.classes == ("cat", "dog", "red <fox>")
    labels = run.labels()
    assert labels.kind == "pseudo_label"
    table = labels.pandas()
    assert list(table.index) == ["a", "b", "c", "turned", "gone"]
    assert table.loc["a", "walk_margin"] == 0.5
    assert "walk" not in table.columns
    for row in labels:
        np.testing.assert_array_equal(row["label"], finished.labels[row["image_id"]])
    for row in run.labels("prediction"):
        np.testing.assert_array_equal(row["label"], finished.labels[row["image_id"]][:, ::-1])


def test_labels_of_a_pass_in_which_all_have_failed(tmp_path: Path) -> None:
    run = write_run(tmp_path).directory
    for shard in (0, 1):
        write_shard(run, "labels", shard, {}, {"unreadable": 3})
    labels = pf.open(run.root).labels("pseudo_label")
    table = labels.pandas()
    assert (len(table), table.index.name) == (0, "image_id")
    assert set(pf.open(run.root).labels("prediction").pandas().columns) - set(table.columns) == {"margin"}
    assert list(labels) == []
    assert len(labels.torch()) == 0  # type: ignore[arg-type]


def test_torch_dataset(finished: ExportRun) -> None:
    dataset = pf.open(finished.directory.root).labels().torch()
    image, label = dataset[3]  # the photograph that lies on its side
    np.testing.assert_array_equal(label.numpy(), finished.labels["turned"])
    assert tuple(image.shape) == (3, *label.shape)
    assert len(dataset) == 5


def test_mistakes(finished: ExportRun, tmp_path: Path) -> None:
    run = pf.open(finished.directory.root)
    with pytest.raises(UserError, match="has no affinity_label yet"):
        run.labels("affinity_label")
    with pytest.raises(UserError, match="there is no map 'cam'; choose from pseudo_label, prediction"):
        run.labels("cam")
    with pytest.raises(UserError, match="is not a run directory"):
        pf.open(str(tmp_path))
    with pytest.raises(UserError, match="overrides are for a config file"):
        pf.run({"output": str(tmp_path)}, ["cam.flip=false"])


def test_an_image_that_has_another_size_now_is_no_pair_with_its_label_map(tmp_path: Path) -> None:
    made = write_run(tmp_path)
    dataset = pf.open(made.directory.root).labels().torch()
    Image.new("RGB", (12, 18)).save(made.photographs / "b.png")
    with pytest.raises(RowError) as caught:
        dataset[1]
    assert caught.value.reason == "bad_mask"
    assert "18" in caught.value.message
    assert len(dataset[0][0]) == 3


def test_a_run_is_read_as_its_own_config_says_whatever_was_opened_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PFIT_RAY_STORAGE", raising=False)
    monkeypatch.setattr(drivers, "_options", None)
    runs = []
    for name, retries in (("one", 1), ("other", 3)):
        (tmp_path / name).mkdir()
        made = write_run(tmp_path / name)
        document = yaml.safe_load(storage.read_bytes(made.directory.url("config.yaml")))
        document["storage"] = {"retries": retries}
        storage.write_bytes(made.directory.url("config.yaml"), yaml.safe_dump(document).encode())
        runs.append(pf.open(made.directory.root))
    assert storage.options().retries == 3
    labels = runs[0].labels()
    looks = (
        lambda run: run.scores,
        lambda run: run.failures("seeds"),
        lambda run: run.labels(),
        lambda run: labels.pandas(),
        lambda run: labels.torch()[0],
        lambda run: next(iter(labels)),
    )
    for look in looks:
        pf.open(runs[1].root)
        look(runs[0])
        assert storage.options().retries == 1
