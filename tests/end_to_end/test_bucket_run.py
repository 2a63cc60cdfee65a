"""The whole method where photographs, labels, masks, weights and results lie in a bucket that fails now and then."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Corpus, SmallRun
from safetensors.torch import save
from support.explorer_run import TOKEN, Visitor
from support.faulty_proxy import Faults, FaultyProxy
from support.page_tags import Tags
from support.processes import driver, wait_for
from support.s3 import ACCESS_KEY, SECRET_KEY, VARIABLES, proxied, s3_server
from support.small_runs import assert_same_results, downloaded

from pfit_ray import storage
from pfit_ray.config.storage import StorageConfig
from pfit_ray.nets.pretrained import package_weights
from pfit_ray.results.explorer.guard import csrf_token
from pfit_ray.rundir.directory import open_run
from pfit_ray.storage import drivers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

RUN = "s3://bucket/run"
BACKBONE = "s3://bucket/backbone.safetensors"


@pytest.fixture
def bucket(corpus_with_bad_inputs: Corpus, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The proxy before a bucket with photographs, labels, masks and weights; this process goes past it."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    with s3_server() as server, proxied(server) as proxy:
        monkeypatch.setattr(drivers, "_options", StorageConfig(endpoint_url=server.url))
        corpus = corpus_with_bad_inputs
        for folder in (corpus.root, corpus.masks):
            for file in folder.iterdir():
                storage.write_bytes(f"s3://bucket/{folder.name}/{file.name}", file.read_bytes())
        storage.write_bytes("s3://bucket/labels.csv", corpus.labels.read_bytes())
        state = package_weights("efficientnet_lite0").backbone
        storage.write_bytes(BACKBONE, save({name: tensor.contiguous() for name, tensor in state.items()}))
        yield proxy


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray keeps its logs; its path is short, because sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def anything_in(url: str, name: str = "") -> bool:
    return any(found.endswith(name) for found, _ in storage.list_files(url))


def test_killed_in_a_bad_bucket_and_equal_to_a_run_on_disk(
    finished_run: SmallRun, bucket: FaultyProxy, ray_folder: Path, tmp_path: Path
) -> None:
    bucket.faults = Faults(seed=1, busy=0.1, reset=0.02, cut=0.02)
    words = [
        *finished_run.words,
        "data.root=s3://bucket/images",
        "data.labels=s3://bucket/labels.csv",
        "data.masks=s3://bucket/masks",
        *(f"{network}.backbone.weights={BACKBONE}" for network in ("affinitynet", "deeplab")),
        f"output={RUN}",
        f"storage.endpoint_url={bucket.url}",
        "storage.backoff_seconds=0.05",
        "resources.train.checkpoint_seconds=0",
    ]
    checkpoints, log = f"{RUN}/train/affinitynet/checkpoints", tmp_path / "killed.log"
    with driver(words, log) as process:
        assert wait_for(lambda: anything_in(checkpoints, "state.pt") or process.poll() is not None, 600)
        assert process.poll() is None, log.read_text()
    log = tmp_path / "last.log"
    with driver(words, log) as process:
        assert process.wait(900) == 0, log.read_text()

    assert bucket.faults.done["busy"] > 20
    run = downloaded(RUN, tmp_path / "run")
    assert_same_results(run, finished_run.folder, same_source=False)
    for network in ("affinitynet", "deeplab"):
        name = f"checkpoints/{network}.safetensors"
        assert (run / name).read_bytes() == (finished_run.folder / name).read_bytes()
    scores = [json.loads((folder / "evaluation.json").read_text()) for folder in (run, finished_run.folder)]
    assert scores[0]["prediction"] == scores[1]["prediction"]

    for secret in (SECRET_KEY, ACCESS_KEY):
        found = subprocess.run(["grep", "-rlF", secret, ray_folder, tmp_path], capture_output=True, text=True).stdout
        assert not found

    said = subprocess.run(
        [sys.executable, "-c", "from pfit_ray.cli.app import main; main()", "status", RUN],
        env={**os.environ, "AWS_ENDPOINT_URL": bucket.url},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "pass predict: 9 of 9 images (6 ok, 3 failed)" in said
    assert "storage requests that had to be repeated: " in said

    directory, config = open_run(RUN)
    explorer = Visitor(config, directory)
    assert explorer.shown(status="ok") == ["chelsea", "coffee", "motorcycle_left", "rocket"]
    layers = [
        str(tag["data-layer"]) for tag in Tags(explorer.get("/image", id="chelsea")).of("a") if tag.get("data-layer")
    ]
    for address in ("/photo?id=chelsea", *layers):
        assert explorer.client.get(address).headers["content-type"].startswith("image/")
    token = {"accept": "application/json", "x-csrf-token": csrf_token(TOKEN)}
    assert explorer.client.post("/mark", data={"id": "chelsea", "mark": "accept"}, headers=token).status_code == 200
    assert explorer.shown(mark="accept") == ["chelsea"]
    assert anything_in(f"{RUN}/review", ".parquet")
