"""The commands of docs/cluster.md for hosts with ssh, on two virtual hosts and a bucket in their network."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from conftest import Corpus, SmallRun
from support.cluster_commands import PAGES
from support.processes import wait_for
from support.s3 import VARIABLES
from support.small_runs import LABELS, SMALL, assert_same_results, downloaded
from support.virtual_hosts import VirtualHost, why_not
from support.virtual_site import HEAD, WORKER, Site, two_hosts

from pfit_ray import storage
from pfit_ray.config.storage import StorageConfig
from pfit_ray.storage import drivers

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

BLOCK = re.compile(r"^<!-- (static[\w ]*) -->\n```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
DASHBOARD = 8265
CLASSES = "data.classes=[cat,cup,motorbike,rocket]"
SETTINGS = [
    "data.labels=s3://bucket/labels.csv",
    "data.masks=s3://bucket/masks",
    "max_failed_fraction=0.6",
    "sheets=0",
    *(f"{network}.backbone.name=efficientnet_lite0" for network in ("classifier", "affinitynet", "deeplab")),
    *(f"{network}.backbone.weights=package" for network in ("affinitynet", "deeplab")),
    *(word.replace(" ", "") for word in SMALL if not word.startswith(("data.classes", "classifier."))),
    "images.max_pixels=400000",
    "affinitynet.train.learning_rate=0.04",
    "affinitynet.train.batch_size=4",
    "walk.source=combined_cam",
    "deeplab.train.learning_rate=0.005",
    "deeplab.train.batch_size=4",
]
"""What makes a run by configs/corpus.yaml the small run."""


@pytest.fixture
def site(
    small_run: SmallRun, corpus_with_bad_inputs: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """Hosts, and a bucket with what the small run has read."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    corpus = corpus_with_bad_inputs
    with two_hosts(tmp_path) as found:
        monkeypatch.setattr(drivers, "_options", StorageConfig(endpoint_url=found.bucket))
        for place, folder in (("photos", corpus.root), ("masks", corpus.masks)):
            for file in folder.iterdir():
                storage.write_bytes(f"s3://bucket/{place}/{file.name}", file.read_bytes())
        storage.write_bytes("s3://bucket/labels.csv", corpus.labels.read_bytes())
        classifier = small_run.folder / "checkpoints" / "classifier.safetensors"
        storage.write_bytes("s3://bucket/classifier.safetensors", classifier.read_bytes())
        yield found


@pytest.fixture(autouse=True, scope="session")  # before the small run
def _possible() -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)


def script(name: str, *filled_in: tuple[str, str], words: Iterable[str] = ()) -> str:
    """A block of the page, with what a user has to fill in, and more words for its last command."""
    text = dict(BLOCK.findall(PAGES[0].read_text()))[name]
    for example, own in filled_in:
        assert text.count(example) == 1, (example, text)
        text = text.replace(example, own)
    return " ".join([text.rstrip("\n"), *words])


def nodes_up(site: Site) -> int:
    """Nodes that Ray has, asked for as the page says."""
    status = "ray exec cluster/static.yaml 'ray status'"
    assert f"`{status}`" in PAGES[0].read_text()
    active = site.run(status, "status", 60).partition("Active:")[2].partition("Pending:")[0]
    return sum(map(int, re.findall(r"^ (\d+) ", active, re.MULTILINE)))


def nodes_of(url: str) -> set[str]:
    """Ids of the nodes that have finished shards of a pass."""
    markers = [json.loads(storage.read_bytes(file)) for file, _ in storage.list_files(f"{url}/done")]
    return {node for marker in markers for node in marker["nodes"].values()}


def busy(host: VirtualHost) -> bool:
    """Whether Ray computes something there."""
    return bool(re.search(r"ray::Map\(|ray::MapWorker\(.*\)\.submit", host.processes()))


def test_the_commands_of_the_page(site: Site, small_run: SmallRun) -> None:
    example = "head=10.0.0.10 workers='10.0.0.11, 10.0.0.12' user=ubuntu"
    site.run(script("static", (example, f"head={HEAD} workers={WORKER} user=root")), "up", 240)
    assert wait_for(lambda: "raylet" in site.worker.processes(), 120), site.head.processes()
    assert wait_for(lambda: nodes_up(site) == 2, 60), site.said("status")

    site.run(script("static submit", ("data.classes=[cat,dog]", CLASSES), words=SETTINGS), "submit", 400)
    run = downloaded("s3://bucket/run", site.folder / "run")
    assert_same_results(run, small_run.folder, same_source=False)
    for network in ("affinitynet", "deeplab"):
        name = f"checkpoints/{network}.safetensors"
        assert (run / name).read_bytes() == (small_run.folder / name).read_bytes()
    assert len(set().union(*(nodes_of(f"s3://bucket/run/{one}") for one in LABELS.values()))) == 2

    site.start(script("static dashboard"), "dashboard")
    assert wait_for(lambda: site.laptop.answers(DASHBOARD), 60), site.said("dashboard")
    own = ("data.classes='[cat, dog]'", CLASSES), ("output=s3://bucket/run", "output=s3://bucket/job")
    job = site.start(script("static job", *own, words=[*SETTINGS, "passes=[seeds]"]), "job")
    assert wait_for(lambda: (nodes_of("s3://bucket/job/seeds") and busy(site.worker)) or job.poll() is not None, 120), (
        site.said("job")
    )
    assert job.poll() is None, site.said("job")
    site.lose_worker()
    assert job.wait(240) == 0, site.said("job")
    seeds = downloaded("s3://bucket/job", site.folder / "job")
    assert_same_results(seeds, small_run.folder, same_source=False, labels=["affinity_label"])

    site.run(script("static down"), "down", 120)
    assert not re.search("raylet|gcs_server", site.head.processes())
