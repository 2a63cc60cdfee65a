"""A head, two CPU nodes and two nodes with GPUs (logical ones): everything runs where the config puts it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from ray.cluster_utils import Cluster
from support.processes import driver, driver_of, wait_for
from support.small_runs import PHOTOGRAPHS, QUICKSTART, SMALL, assert_same_results, write_label_table, write_photographs

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
    "resources.network.gpus=2": "resources.network.gpus asks for 2 GPUs and the cluster's largest node has 1; ",
    "resources.network.cpus=2": "resources.network.cpus asks for 2 CPUs and the cluster's largest node with such GPUs ",
    "resources.cpu.cpus=1.5": "resources.cpu.cpus asks for 1.5 CPUs and the cluster's largest node has 1; ",
    "resources.cpu.labels={pool: tpu}": "resources.cpu.labels asks for nodes labelled pool: tpu, and the cluster has ",
    "resources.network.min_workers=3": "resources.network.min_workers asks for 3 workers of 0.5 CPUs and 1 GPUs, and ",
    "resources.network.memory_mb=99999999": "resources.network.memory_mb asks for 99,999,999 MiB and the largest node ",
    "resources.train.workers=4": "resources.train.workers: 4 worker(s) of 0.5 CPUs and 1 GPUs do not fit into the ",
}

PLANS = """
import json, sys
from pfit_ray.config import load_config
from pfit_ray.errors import UserError
from pfit_ray.runner.plan import describe_plan

address, config, *words = json.loads(sys.argv[1])
for mistake in json.loads(sys.argv[2]):
    try:
        print(mistake, list(describe_plan(load_config(config, [*words, mistake]), address)))
    except UserError as error:
        print(error)
"""


def test_what_can_never_run_is_refused_before_any_work(nodes: Nodes, words: list[str], tmp_path: Path) -> None:
    line = [nodes.cluster.address, *words[1:], f"output={tmp_path / 'run'}"]
    log = tmp_path / "plans.log"
    with driver_of(PLANS, log, [json.dumps(line), json.dumps(list(IMPOSSIBLE))]) as process:
        assert process.wait(300) == 0, log.read_text()
    said = [line for line in log.read_text().splitlines() if line.startswith("resources.")]
    for mistake, sentence in IMPOSSIBLE.items():
        assert any(line.startswith(sentence) for line in said), (mistake, log.read_text())
    assert len(said) == len(IMPOSSIBLE)
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_places_and_survives_the_loss_of_gpu_nodes(
    nodes: Nodes, words: list[str], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "run.log"
    with driver([*words, *BY_POOL, f"output={run}", "--address", nodes.cluster.address], log) as process:
        # In the middle of a pass and in the middle of a training a GPU node goes, and another one comes.
        for moment in (lambda: shards(run, "seeds"), lambda: any((run / "train" / "affinitynet").rglob("*.pt"))):
            assert wait_for(lambda now=moment: now() or process.poll() is not None, 600), log.read_text()
            assert process.poll() is None, log.read_text()
            nodes.cluster.remove_node(nodes.gpu[0], allow_graceful=False)
            nodes.gpu.append(nodes.gpu.pop(0))
            nodes.add_gpu_node()
        assert process.wait(600) == 0, log.read_text()
    gpu, cpu = ({node.node_id for node in pool} for pool in (nodes.gpu, nodes.cpu))
    for pass_name in ("seeds", "labels"):
        for marker in (run / pass_name / "done").glob("*.json"):
            where = json.loads(marker.read_text())["nodes"]
            assert where.get("alone", where.get("network")) in gpu
            assert where.get("alone") or where["cpu"] in cpu  # images that are tried alone stay with their network
    trained = json.loads((run / "train" / "affinitynet" / "workers.json").read_text())
    assert trained["workers"] == len(trained["nodes"]) == 2
    assert set(trained["nodes"]) <= gpu

    alone = tmp_path / "alone"
    one = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 3, "num_gpus": 2, "include_dashboard": False, **STORE}
    )
    try:
        with driver([*words, f"output={alone}", "--address", one.address], tmp_path / "alone.log") as process:
            assert process.wait(600) == 0, (tmp_path / "alone.log").read_text()
    finally:
        one.shutdown()
    assert_same_results(run, alone, labels=["affinity_label", "pseudo_label"])
    weights = [(folder / "checkpoints" / "affinitynet.safetensors").read_bytes() for folder in (run, alone)]
    assert weights[0] == weights[1]
