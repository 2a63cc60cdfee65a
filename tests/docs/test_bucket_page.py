"""docs/bucket.md can be followed against an S3 server: its plans, what it looks at, and what it takes away."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SmallRun
from s3fs import S3FileSystem
from support.doc_pages import blocks, shell_commands
from support.places import REPOSITORY
from support.s3 import S3, VARIABLES, s3_server
from support.small_runs import command, write_photographs

from pfit_ray import storage
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.weights import save_network
from pfit_ray.storage import drivers

TEXT = (REPOSITORY / "docs" / "bucket.md").read_text(encoding="utf-8")
COMMANDS = [words[words.index("pfit-ray") + 1 :] for words in shell_commands(TEXT) if "pfit-ray" in words]
LITE = [f"{network}.backbone={{name: efficientnet_lite0, weights: none}}" for network in ("affinitynet", "deeplab")]


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The page's two buckets, one with four photographs and a classifier of cats and dogs."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(drivers, "_options", drivers._options)
    with s3_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        S3FileSystem.clear_instance_cache()
        S3FileSystem().mkdir("results")
        for file in write_photographs(tmp_path / "photos").iterdir():
            storage.write_bytes(f"s3://bucket/photos/{file.name}", file.read_bytes())
        network = save_network(CamClassifier("efficientnet_lite0", 2), {"classes": '["cat", "dog"]'})
        storage.write_bytes("s3://bucket/classifier.safetensors", network)
        yield server
    S3FileSystem.clear_instance_cache()


def in_results() -> list[str]:
    return [url for url, _ in storage.list_files("s3://results")]


def test_plans_count_the_photographs_and_write_nothing(buckets: S3) -> None:
    small = [*LITE, "classifier.backbone={name: efficientnet_lite0, weights: none}"]
    planned = [words for words in COMMANDS if words[0] in ("plan", "run")]
    assert len(planned) == 4
    for words in planned:
        config, *rest = (word for word in words[1:] if not word.startswith("--"))
        said = command("plan", str(REPOSITORY / config), *rest, *small)
        assert "classes: 2 (cat, dog)" in said.out
        if "data.sample=0.01" in words:
            assert "take more by data.sample" in said.err
        else:
            assert said.code == 0, said
            assert "manifest train: list the images, 4 images" in said.out
    assert in_results() == []


def test_results_are_used_where_they_are(small_run: SmallRun, buckets: S3) -> None:
    for run in ("run", "trial"):
        for file in small_run.folder.rglob("*"):
            place = file.relative_to(small_run.folder)
            if file.is_file() and place.parts[0] not in ("train", "checkpoints"):
                storage.write_bytes(f"s3://results/{run}/{place.as_posix()}", file.read_bytes())
    said = {words[0]: command(*words) for words in COMMANDS if words[0] in ("status", "report", "export")}
    assert {name: finished.code for name, finished in said.items()} == {"status": 0, "report": 0, "export": 0}, said
    assert "pass labels: 9 of 9 images (4 ok, 5 failed)" in said["status"].out
    assert "pseudo_label: 4 images exported as hf" in said["export"].out
    assert any(url.endswith("s3://results/trial/report.html") for url in in_results())
    (code,) = blocks(TEXT, "python")
    names: dict[str, object] = {}
    exec(code, names)
    assert list(names["rows"]) == ["image_id", "keys", "crf_change"]
    assert len(names["rows"]) == 4
