import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Corpus, SmallRun
from support.sentences import facts
from support.small_runs import QUICKSTART, SMALL, write_photographs

from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.load import validate
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import UserError
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.runner import calibrate, plan
from pfit_ray.runner.plan import describe_plan

ZERO_SHOT = {"cat": [281], "cup": [504], "motorbike": [665], "rocket": [657]}
LITE = {"name": "efficientnet_lite0", "weights": "package"}


@pytest.fixture(autouse=True)
def _four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "machine_cpus", lambda stated: 4)


def config(folder: Path, **fields: Any) -> RunConfig:
    """The sample photographs with small backbones."""
    document: dict[str, Any] = {
        "output": str(folder / "run"),
        "shard_size": 3,
        "data": {"source": "samples"},
        "classifier": {"source": "zero_shot", "zero_shot": ZERO_SHOT, "backbone": LITE},
        "affinitynet": {"backbone": LITE},
        "deeplab": {"backbone": LITE},
    }
    return validate({**document, **fields})


def test_a_new_run(tmp_path: Path) -> None:
    assert list(describe_plan(config(tmp_path))) == [
        f"output: {tmp_path}/run",
        "classes: 4 (cat, cup, motorbike, rocket)",
        "fidelity: lossless",
        "manifest train: list the images, 5 images (2.1 MB) in 2 shards",
        "  of the first 5 images: cat 1, cup 1, motorbike 2, rocket 1",
        "network classifier: take it from ImageNet rows",
        "pass seeds: all images",
        "network affinitynet: train efficientnet_lite0 for 3 epochs",
        "pass labels: all images",
        "manifest predict: list the images, 5 images (2.1 MB) in 2 shards",
        "network deeplab: train efficientnet_lite0 for 50 epochs",
        "pass predict: all images",
        "evaluation: score and draw contact sheets",
        "on this machine: up to 4 workers of 1 CPU, each for networks and all the rest",
        *(
            f"pass {name}, 5 images to do: seconds per image not known, no shard is finished; plan --measure tries "
            "some images here"
            for name in ("seeds", "labels", "predict")
        ),
        "not included: the training of affinitynet",
        "not included: the training of deeplab",
        "not included: listing, the start of Ray and of its workers, scores and report",
    ]
    assert not (tmp_path / "run").exists()


def test_one_pass_with_a_ready_network_and_many_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "check_networks", lambda config, networks: None)
    weights = tmp_path / "classifier.safetensors"
    names = ["cat", "motorbike", *(f"c{number}" for number in range(8))]
    settings = config(
        tmp_path,
        passes=["seeds"],
        data={"source": "samples", "classes": names, "train": {"limit": 3}},
        classifier={"source": "weights", "weights": str(weights)},
    )
    lines = list(describe_plan(settings))
    assert lines[1] == "classes: 10 (cat, motorbike, c0, c1, c2, c3, c4, c5, ...)"
    assert lines[3:7] == [
        "manifest train: list the images, 3 images (1.5 MB) in 1 shards",
        "  of the first 3 images: cat 1, motorbike 2",
        f"network classifier: take it from {weights}",
        "pass seeds: all images",
    ]
    assert len(lines) == 11


def test_sizes_that_are_not_known(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image\n" + "".join(f"{number}.jpg\n" for number in range(7)))
    data = {"source": "table", "table": str(tmp_path / "a.csv"), "classes": ["cat", "cup", "motorbike", "rocket"]}
    assert "manifest train: list the images, 7 images in 3 shards" in describe_plan(config(tmp_path, data=data))
    (tmp_path / "a.csv").write_text("image,size\n0.jpg,123456\n1.jpg,\n2.jpg,900000\n")
    line = "manifest train: list the images, 3 images (at least 1.0 MB) in 1 shards"
    assert line in describe_plan(config(tmp_path, data=data))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (123_456_789, "123.5 MB"), (2 * 10**17, "200.0 PB")],
)
def test_readable(count: int, text: str) -> None:
    assert plan._readable(count) == text


def test_what_was_understood_of_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "x.psd", "y.PSD", "README"):
        (root / name).write_bytes(b"x")
    labels = tmp_path / "labels.jsonl"
    rows = [("a.jpg", ["cat", "cup"]), ("b.jpg", []), ("c.jpg", ["gnu"]), ("z.jpg", ["cat"])]
    labels.write_text("".join(json.dumps({"image": image, "classes": names}) + "\n" for image, names in rows))
    data = {"source": "folder", "root": str(root), "labels": str(labels), "classes": list(ZERO_SHOT)}
    settings = config(tmp_path, data=data)
    lines = list(describe_plan(settings))
    told = lines[4:10]
    assert told[0] == "  of the first 4 images: cat 1, cup 1, none of the classes 1"
    assert [line.split(", the first is ")[0] for line in told[1:3]] == [
        "  failed, unknown_class: 1",
        "  failed, no_label: 1",
    ]
    assert told[3:] == [
        "  files left out without a suffix: 1, 'README'",
        "  files left out with the suffix .psd: 2, such as 'x.psd'",
        f"  rows of {labels} that name no image: 1, 'z.jpg'; name images by their path below data.root, or by their id",
    ]
    runner, notes = plan.Runner(settings, plan.Progress()), Notes()
    write_manifest(runner.run_directory, "train", runner.images("train", notes), 3, notes)
    assert list(describe_plan(settings))[4:10] == told
    monkeypatch.setattr(plan, "FIRST", 1)
    assert list(describe_plan(settings))[4] == "  of the first 1 images: cat 1, cup 1"


def test_a_listed_set_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(tmp_path)
    runner = plan.Runner(settings, plan.Progress())
    for image_set in ("train", "predict"):
        write_manifest(runner.run_directory, image_set, runner.images(image_set, Notes()), shard_size=3)
    monkeypatch.setattr(plan.Runner, "images", None)
    lines = list(describe_plan(settings))
    assert "manifest train: finished, 5 images (2.1 MB) in 2 shards" in lines
    assert "manifest predict: finished, 5 images (2.1 MB) in 2 shards" in lines


def test_a_long_count_says_how_far_it_is_and_the_same_images_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "NOTE_SECONDS", 0.0)
    lines = list(describe_plan(config(tmp_path)))
    notes = [line for line in lines if "so far" in line]
    assert notes == [f"manifest train: counting the images, {number} so far" for number in range(1, 6)]
    assert not (tmp_path / "run").exists()


@pytest.mark.timeout(900)
def test_a_run_that_was_interrupted(small_run: SmallRun, corpus_with_bad_inputs: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    for name in ("labels/done/00001.json", "labels/done/00004.json", "checkpoints/deeplab.safetensors"):
        (folder / name).unlink()
    (folder / "evaluation.json").unlink()
    lines = list(describe_plan(load_config(small_run.words[1], [*small_run.words[2:], f"output={folder}"])))
    size = sum(path.stat().st_size for path in corpus_with_bad_inputs.root.iterdir()) / 1000
    assert lines[3:15] == [
        f"manifest train: finished, 9 images ({size:.1f} kB) in 5 shards",
        "  of the first 9 images: cat 4, cup 1, motorbike 1, rocket 1, ground truth 3",
        *lines[5:7],
        "network classifier: finished",
        "pass seeds: finished",
        "network affinitynet: finished",
        "pass labels: 2 of 5 shards",
        f"manifest predict: finished, 9 images ({size:.1f} kB) in 5 shards",
        "network deeplab: train efficientnet_lite0 for 2 epochs",
        "pass predict: finished",
        "evaluation: score and draw contact sheets",
    ]
    cost, time, assumed, training, rest = lines[16:]
    markers = [json.loads((folder / f"labels/done/{shard:05d}.json").read_text()) for shard in (0, 2, 3)]
    stages = [stage for marker in markers for stage in marker["stages"].items()]
    seconds = sum(timing["seconds"] for name, timing in stages if name != "fetch") / 6
    assert cost.startswith(f"pass labels, 3 images to do: {seconds:.3g} s per image (networks ")
    assert cost.endswith(", measured on 6 images of this run, in 3 finished shards")
    assert time.startswith("time on this machine: ")
    assert assumed.startswith("assumed: ")
    assert training.startswith("not included: the training of deeplab, which is at epoch ")
    assert rest.startswith("not included: listing")


def test_what_is_not_finished_is_measured_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_config(
        QUICKSTART, [*SMALL, f"data.root={write_photographs(tmp_path / 'photos')}", f"output={tmp_path / 'run'}"]
    )
    monkeypatch.setattr(calibrate, "SECONDS", 0.0)
    lines = list(describe_plan(settings, measure=True))
    told = [line for line in lines if line.startswith("pass ") and "to do" in line]
    assert [line.split(",")[0] for line in told] == ["pass seeds", "pass labels", "pass predict"]
    assert all(
        re.search(r": [\d.e-]+ s per image \(networks .* on a CPU, .*measured now on 1 image", line) for line in told
    )
    assert ["random weights of" in line for line in told] == [False, True, True]
    (time,) = [line for line in lines if line.startswith("time on this machine: ")]
    assert re.search(r"\(seeds [\d.]+ s, labels [\d.]+ s, predict [\d.]+ s\)$", time)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"deeplab": {"source": "weights", "weights": "nowhere.pth"}},
            ["deeplab.weights", "'nowhere.pth'"],
        ),
        (
            {"passes": ["labels"]},
            ["{folder}"],
        ),
        (
            {"data": {"source": "voc", "root": "nowhere", "classes": ["cat", "cup", "motorbike", "rocket"]}},
            ["data.root", "{here}/nowhere", "VOCdevkit/VOC2012"],
        ),
        (
            {"resources": {"network": {"cpus": 4}}},
            ["resources.network.cpus", "4", "resources.cpu.cpus", "1", "4"],
        ),
        (
            {"resources": {"train": {"workers": 5}}},
            ["affinitynet.train.batch_size", "32", "resources.train.workers", "5"],
        ),
    ],
)
def test_mistakes_that_a_run_would_stop_at(tmp_path: Path, fields: dict, told: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        list(describe_plan(config(tmp_path, **fields)))
    assert facts(caught.value) == [one.format(folder=tmp_path / "run", here=Path.cwd()) for one in told]
    assert not (tmp_path / "run").exists()
