import os
import subprocess
import sys

import pytest
import ray

from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.errors import UserError
from pfit_ray.session import ClusterSize, ray_session


def test_size_for_people() -> None:
    assert str(ClusterSize(nodes=3, cpus=24.0, gpus=0.5)) == "3 node(s), 24 CPU, 0.5 GPU"


def test_a_ray_that_was_joined_before_is_used_and_left_running(local_ray: None) -> None:
    with ray_session("127.0.0.1:1", ResourcesConfig(), verbose=False) as size:
        assert size == ClusterSize(nodes=1, cpus=2, gpus=0)
        context = ray.data.DataContext.get_current()
        assert not context.enable_progress_bars
    assert ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1"])
@pytest.mark.parametrize("variable", [False, True])
def test_no_cluster_at_the_address(monkeypatch: pytest.MonkeyPatch, address: str, variable: bool) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for name in ("OMP_WAIT_POLICY", "RAY_BACKEND_LOG_LEVEL"):  # restored afterwards
        monkeypatch.setenv(name, os.environ.get(name, ""))
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(UserError) as caught,
        ray_session(None if variable else address, ResourcesConfig(), verbose=False),
    ):
        pass
    assert str(caught.value).startswith(f"--address {address}: no Ray cluster answers there ([Errno ")
    assert str(caught.value).endswith(
        "start one with 'ray start --head', or leave --address out to run on this machine"
    )


ALONE = """
import ray
from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.session import ray_session

with ray_session(None, ResourcesConfig(object_store_mb=100), verbose=False) as size:
    print(size, "|", int(ray.cluster_resources()["object_store_memory"]) >> 20)
print(ray.is_initialized())
"""


def test_a_ray_of_its_own_is_started_quietly_and_ended() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    cpus = max(2, os.cpu_count() or 1)
    assert done.stdout.splitlines() == [f"1 node(s), {cpus} CPU, {ray_gpus(done.stdout)} GPU | 100", "False"]
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def ray_gpus(text: str) -> str:
    """The number of GPUs in a printed size: whatever this machine has."""
    return text.partition(" CPU, ")[2].partition(" GPU")[0]
