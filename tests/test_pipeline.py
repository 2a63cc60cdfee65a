import json
import shutil
from pathlib import Path

import pytest
from conftest import SmallRun

from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.layout import RunDirectory
from pfit_ray.pipeline import Placement, place, run_pass
from pfit_ray.tasks.passes import plan_pass


def config(**resources: dict) -> RunConfig:
    return validate({"output": "run", "data": {"source": "samples"}, "resources": resources})


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "network_workers", "network_gpus"),
    [
        ({}, 2, 0, 1, 0),
        ({}, 9, 0, 4, 0),  # half of what is left beside one CPU task
        ({"network": {"cpus": 2}}, 9, 0, 2, 0),
        ({"network": {"cpus": 2}}, 3, 0, 1, 0),
        ({"network": {"workers": 2}}, 9, 0, 2, 0),
        ({"network": {"workers": 100}}, 9, 0, 4, 0),
        ({"network": {"cpus": 0.25}}, 2, 0, 2, 0),
        ({}, 16, 4, 4, 1),  # one GPU each where there are GPUs
        ({}, 4, 8, 3, 1),  # GPUs without CPUs stay idle
        ({"network": {"cpus": 0.25}}, 4, 8, 8, 1),
        ({"network": {"gpus": 0.5}}, 16, 4, 8, 0.5),
        ({"network": {"gpus": 2}}, 16, 5, 2, 2),
        ({"network": {"gpus": 0}}, 9, 4, 4, 0),
        ({"network": {"workers": 1}}, 16, 4, 1, 1),
    ],
)
def test_place(resources: dict, cpus: float, gpus: float, network_workers: int, network_gpus: float) -> None:
    placement = place(config(**resources), cpus, gpus)
    assert (placement.network_workers, placement.network_gpus) == (network_workers, network_gpus)
    assert placement.fetch_cpus == 0.25
    assert placement.cpu_cpus == 1
    taken = placement.network_cpus + placement.cpu_cpus
    assert taken <= cpus


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "sentence"),
    [
        (
            {"network": {"cpus": 2}},
            2,
            0,
            "resources.network.cpus 2 and resources.cpu.cpus 1 do not fit together into the cluster's 2 CPUs; "
            "lower one of them",
        ),
        (
            {"cpu": {"cpus": 1.5}},
            2,
            0,
            "resources.network.cpus 1 and resources.cpu.cpus 1.5 do not fit together into the cluster's 2 CPUs; "
            "lower one of them",
        ),
        (
            {"network": {"gpus": 1}},
            8,
            0,
            "resources.network.gpus asks for 1 GPUs and the cluster has 0; lower it or add GPUs",
        ),
        (
            {"network": {"gpus": 4}},
            8,
            2,
            "resources.network.gpus asks for 4 GPUs and the cluster has 2; lower it or add GPUs",
        ),
    ],
)
def test_what_does_not_fit_is_refused(resources: dict, cpus: float, gpus: float, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        place(config(**resources), cpus, gpus)
    assert str(caught.value) == sentence


GIB = 1 << 30


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "gibibytes", "network_workers"),
    [
        ({}, 9, 0, 1000, 4),
        ({}, 9, 0, 26, 2),
        ({}, 9, 0, 16, 1),
        ({"network": {"memory_mb": 1024}, "cpu": {"memory_mb": 1024}, "fetch": {"memory_mb": 1024}}, 9, 0, 6, 2),
        ({"network": {"memory_mb": 1024}, "cpu": {"memory_mb": 1024}, "fetch": {"memory_mb": 1024}}, 9, 4, 5, 3),
        ({"network": {"memory_mb": 1024}, "cpu": {"memory_mb": 1024}, "fetch": {"memory_mb": 1024}}, 9, 0, 3, 1),
    ],
)
def test_memory_bounds_the_network_workers(
    resources: dict, cpus: float, gpus: float, gibibytes: float, network_workers: int
) -> None:
    placement = place(config(**resources), cpus, gpus, gibibytes * GIB)
    assert placement.network_workers == network_workers
    assert placement.warning is None
    assert placement.memory is not None
    memory = placement.memory
    assert memory.fetch + memory.cpu + network_workers * memory.network <= gibibytes * GIB


def test_one_worker_of_each_kind_runs_on_a_small_machine_too() -> None:
    placement = place(config(), 2, 0, 2 * GIB)
    assert placement.network_workers == 1
    assert placement.memory is not None
    assert sum(vars(placement.memory).values()) <= 2 * GIB
    assert placement.warning is not None
    assert placement.warning.startswith("Memory: ")


def test_without_a_known_memory_none_is_reserved() -> None:
    assert place(config(), 2, 0).memory is None


def test_placement_for_people() -> None:
    cpu = Placement(fetch_cpus=0.25, network_cpus=1, network_gpus=0, network_workers=3, cpu_cpus=0.5)
    assert cpu.describe() == "networks: up to 3 actors of 1 CPU; the rest: tasks of 0.5 CPU"
    gpu = Placement(fetch_cpus=0.25, network_cpus=0.25, network_gpus=0.5, network_workers=8, cpu_cpus=1)
    assert gpu.describe() == "networks: up to 8 actors of 0.25 CPU, 0.5 GPU; the rest: tasks of 1 CPU"


@pytest.fixture
def seeded(small_run: SmallRun, tmp_path: Path) -> RunDirectory:
    """The small run as it was before its second pass."""
    shutil.copytree(small_run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "labels")
    return RunDirectory(str(tmp_path / "run"))


@pytest.mark.timeout(900)
def test_a_pass_over_some_shards(small_run: SmallRun, seeded: RunDirectory) -> None:
    settings = load_config(seeded.url("config.yaml"))
    results = run_pass(plan_pass("labels", settings, seeded), settings, seeded, [1, 4], place(settings, 2, 0))
    found = sorted(results, key=lambda result: result["shard"])
    assert found == [
        {"shard": 1, "ok": 1, "failed": 1, "skipped": 0},
        {"shard": 4, "ok": 0, "failed": 1, "skipped": 0},
    ]
    assert list(seeded.finished_shards("labels")) == [1, 4]
    for shard in (1, 4):
        name = f"labels/pseudo_labels/{shard:05d}.tar"
        assert Path(seeded.url(name)).read_bytes() == (small_run.folder / name).read_bytes()
        marker = json.loads(Path(seeded.marker("labels", shard)).read_text())
        assert marker["reasons"] == {1: {"upstream": 1}, 4: {"no_label": 1}}[shard]


@pytest.mark.timeout(900)
def test_a_mistake_that_a_worker_finds_arrives_as_one_sentence(seeded: RunDirectory) -> None:
    settings = load_config(seeded.url("config.yaml"))
    Path(seeded.weights("affinitynet")).write_bytes(b"damaged")
    with pytest.raises(UserError) as caught:
        list(run_pass(plan_pass("labels", settings, seeded), settings, seeded, [0, 1], place(settings, 2, 0)))
    assert str(caught.value) == (
        f"{seeded.weights('affinitynet')}: this is neither a safetensors file nor a PyTorch state dict"
    )
    assert seeded.finished_shards("labels") == {}
