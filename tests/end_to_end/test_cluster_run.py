"""A head, two CPU nodes and two nodes with GPUs (logical ones): everything runs where the config puts it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from conftest import SmallRun
from ray.cluster_utils import Cluster
from support.processes import driver_of, wait_for
from support.small_runs import (
    PHOTOGRAPHS,
    QUICKSTART,
    SMALL,
    label_files,
    table,
    write_label_table,
    write_photographs,
)

from pfit_ray.config import load_config
from pfit_ray.train.fit import train_network

pytestmark = [pytest.mark.slow, pytest.mark.multinode, pytest.mark.timeout(1200)]

STORE = {"object_store_memory": 120 << 20}
EVERYWHERE = [
    "shard_size=1",
    "data.source=folder",
    "sheets=0",
    "resources.network.cpus=0.5",
    "resources.network.gpus=1",
    "resources.train.workers=2",
    "resources.train.gpus_per_worker=1",
    "resources.train.cpus_per_worker=0.5",
    "resources.train.backend=gloo",
    "resources.train.checkpoint_seconds=0",
    "passes=[seeds, labels]",
    "affinitynet.train.epochs=4",
    "affinitynet.train.batch_size=4",
]
BY_POOL = [
    "resources.network.labels={pool: gpu}",
    "resources.cpu.labels={pool: cpu}",
    "resources.train.labels={pool: gpu}",
]


class Nodes(NamedTuple):
    """A cluster, and its nodes by pool."""

    cluster: Cluster
    cpu: list
    gpu: list

    def add_gpu_node(self) -> None:
        self.gpu.append(self.cluster.add_node(num_cpus=1, num_gpus=1, labels={"pool": "gpu"}, **STORE))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **STORE})
    cpu = [cluster.add_node(num_cpus=1, labels={"pool": "cpu"}, **STORE) for _ in range(2)]
    found = Nodes(cluster, cpu, [])
    found.add_gpu_node()
    found.add_gpu_node()
    yield found
    cluster.shutdown()


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line, but for the run directory."""
    folder = tmp_path_factory.mktemp("photographs")
    images = write_photographs(folder / "images")
    shown = {name.partition(".")[0]: what for name, what in PHOTOGRAPHS.items()}
    labels = write_label_table(folder / "labels.csv", shown)
    return ["run", QUICKSTART, *SMALL, *EVERYWHERE, f"data.root={images}", f"data.labels={labels}"]


def shards(run: Path, pass_name: str) -> int:
    return len(list((run / pass_name / "done").glob("*.json")))


IMPOSSIBLE = {
    "resources.network.gpus=2": "resources.network.gpus ",
    "resources.cpu.labels={pool: tpu}": "resources.cpu.labels ",
    "resources.train.workers=4": "resources.train.workers: ",
}
"""What the cluster can never run, and the field of the refusal; tests/cluster/test_placement.py has them all."""

DRIVE = """
import json, sys
from pfit_ray.cli.app import main
from pfit_ray.config import load_config
from pfit_ray.errors import UserError
from pfit_ray.runner.plan import describe_plan

address, words, places, mistakes = json.loads(sys.argv[1])
for mistake in mistakes:
    try:
        print(mistake, list(describe_plan(load_config(words[1], [*words[2:], mistake]), address)))
    except UserError as error:
        print("refused:", error, flush=True)
sys.argv = ["pfit-ray", *words, *places, "--address", address]
main()
"""


def test_a_run_keeps_its_places_and_survives_the_loss_of_gpu_nodes(
    nodes: Nodes, words: list[str], small_run: SmallRun, local_ray: None, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "run.log"
    given = [nodes.cluster.address, [*words, f"output={run}"], BY_POOL, list(IMPOSSIBLE)]
    with driver_of(DRIVE, log, [json.dumps(given)]) as process:
        # In the middle of a pass and in the middle of a training a GPU node goes, and another one comes.
        for moment in (lambda: shards(run, "seeds"), lambda: any((run / "train" / "affinitynet").rglob("*.pt"))):
            assert wait_for(lambda now=moment: now() or process.poll() is not None, 600), log.read_text()
            assert process.poll() is None, log.read_text()
            nodes.cluster.remove_node(nodes.gpu[0], allow_graceful=False)
            nodes.gpu.append(nodes.gpu.pop(0))
            nodes.add_gpu_node()
        assert process.wait(600) == 0, log.read_text()
    refused = [line.removeprefix("refused: ") for line in log.read_text().splitlines() if line.startswith("refused: ")]
    assert len(refused) == len(IMPOSSIBLE)
    assert all(line.startswith(field) for line, field in zip(refused, IMPOSSIBLE.values(), strict=True)), refused

    gpu, cpu = ({node.node_id for node in pool} for pool in (nodes.gpu, nodes.cpu))
    for pass_name in ("seeds", "labels"):
        assert shards(run, pass_name) == len(PHOTOGRAPHS)
        for marker in (run / pass_name / "done").glob("*.json"):
            where = json.loads(marker.read_text())["nodes"]
            assert where.get("alone", where.get("network")) in gpu
            assert where.get("alone") or where["cpu"] in cpu  # images that are tried alone stay with their network
    trained = json.loads((run / "train" / "affinitynet" / "workers.json").read_text())
    assert trained["workers"] == len(trained["nodes"]) == 2
    assert set(trained["nodes"]) <= gpu

    # The same on one node: labels of the small run, and weights of a training of these examples.
    names = [name.partition(".")[0] for name in sorted(PHOTOGRAPHS)]
    rows = [table(one, "seeds").loc[names].drop(columns=["uri", "label_offset"]) for one in (run, small_run.folder)]
    pd.testing.assert_frame_equal(*rows, check_exact=True)
    labels = [label_files(one, "affinity_label") for one in (run, small_run.folder)]
    assert {name: labels[0][name] for name in names} == {name: labels[1][name] for name in names}
    config = load_config(str(run / "config.yaml"), ["resources.train.gpus_per_worker=0", "resources.train.labels={}"])
    again = tmp_path / "affinitynet.safetensors"
    examples = run / "train" / "affinitynet" / "examples.parquet"
    train_network("affinitynet", config, str(examples), str(again), str(tmp_path / "work"))
    assert again.read_bytes() == (run / "checkpoints" / "affinitynet.safetensors").read_bytes()
