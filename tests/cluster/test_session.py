import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ray
from support.places import REPOSITORY

from pfit_ray.cluster import session
from pfit_ray.cluster.session import ray_session, worker_environment
from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.config.storage import StorageConfig
from pfit_ray.errors import UserError
from pfit_ray.storage import drivers


def test_a_ray_that_was_joined_before_is_used_and_left_running(
    local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_preload", lambda preload: pytest.fail("its workers are not ours"))
    with ray_session("127.0.0.1:1", ResourcesConfig(), verbose=False, preload=print) as cluster:
        assert (cluster.nodes, cluster.cpus, cluster.gpus) == (1, 2, 0)
        assert cluster.memory is not None
        assert cluster.memory > 1 << 20
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
import sys
import time

import ray
from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.cluster.session import ray_session

resources = ResourcesConfig(object_store_mb=100, cpus=3)

def preload(number, count):
    sys.told = number, count
    time.sleep(3)


with ray_session(None, resources, verbose=False, preload=preload) as size:
    print(size, "|", int(ray.cluster_resources()["object_store_memory"]) >> 20)

    seen = ray.remote(num_cpus=0.75)(lambda: (time.sleep(1), sys.told)[1])
    # Later tasks find the processes that have been told to get ready.
    print(sorted(ray.get([seen.remote() for _ in range(3)])))
print(ray.is_initialized())
"""


def test_a_ray_of_its_own_is_started_quietly_with_warm_workers_and_ended() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    size = f"1 node(s), 3 CPU, {ray_gpus(done.stdout)} GPU | 100"
    assert done.stdout.splitlines() == [size, "[(0, 3), (1, 3), (2, 3)]", "False"]
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


UNDER_UV = """
import sys

import ray
from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.cluster.session import ray_session

with ray_session(None, ResourcesConfig(object_store_mb=100, cpus=2), verbose=False):
    interpreter = ray.remote(lambda: sys.executable).remote()
    print(ray.get(interpreter, timeout=100) == sys.executable, ray.get_runtime_context().runtime_env)
"""


@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed: pip install uv")
@pytest.mark.parametrize("place", ["project", "elsewhere"])
def test_workers_start_under_uv_run(tmp_path: Path, place: str) -> None:
    """By default Ray starts them by uv in a copy of the folder, where none has an environment."""
    project, folder = tmp_path / "project", tmp_path / place
    for one in {project, folder}:
        one.mkdir()
    (project / "pyproject.toml").write_text('[project]\nname = "mine"\nversion = "1"\n')
    (project / ".venv").symlink_to(sys.prefix)
    (folder / "program.py").write_text(UNDER_UV)
    command = ["uv", "run", "--no-sync", "--project", str(project), "python", "program.py"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "VIRTUAL_ENV")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout.splitlines() == ["True {}"], done.stderr


ON_A_CLUSTER = """
import os
import subprocess
import sys

import ray
from ray.cluster_utils import Cluster
from ray.data import ActorPoolStrategy
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from support.s3 import SECRET_KEY, VARIABLES

from pfit_ray import storage
from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.config.storage import StorageConfig
from pfit_ray.cluster.session import ray_session

cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 150 << 20},
)
os.environ.update(VARIABLES)
options = StorageConfig(endpoint_url="http://store:9000", profile="work", retries=3)
storage.configure(options)


def seen(*_):
    return {"secret": os.environ.get("AWS_SECRET_ACCESS_KEY"), "same": storage.options() == options}


class Seen:
    def __call__(self, row):
        return seen()


with ray_session(cluster.address, ResourcesConfig(), verbose=False):
    environment = str(ray.get_runtime_context().runtime_env)
    assert SECRET_KEY not in environment, environment
    data = ray.data.range(1)
    found = [
        ray.get(ray.remote(seen).remote()),
        *data.map(seen).take_all(),
        *data.map(Seen, compute=ActorPoolStrategy(size=1)).take_all(),
        TorchTrainer(
            lambda config: seen(),
            train_loop_config={},
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(
                name="x", storage_path=sys.argv[1], worker_runtime_env={"env_vars": {"OMP_WAIT_POLICY": "passive"}}
            ),
        ).fit().return_value,
    ]
    assert found == [{"secret": SECRET_KEY, "same": True}] * 4, found
    session = cluster.head_node.get_session_dir_path()
cluster.shutdown()
for folder in (session, sys.argv[1]):
    logged = subprocess.run(["grep", "-rlF", SECRET_KEY, folder], capture_output=True, text=True).stdout
    assert not logged, logged
print("handed over")
"""


@pytest.mark.slow
@pytest.mark.multinode
def test_workers_of_a_cluster_are_handed_credentials_that_are_logged_nowhere(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_ADDRESS"))}
    environment["PYTHONPATH"] = str(REPOSITORY / "tests")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ON_A_CLUSTER, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["handed over"], done.stderr


def test_a_ray_without_the_section_storage_is_refused(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "_options", StorageConfig(endpoint_url="http://store:9000"))
    with (
        pytest.raises(UserError, match="the section storage does not reach the workers"),
        ray_session(None, ResourcesConfig(), verbose=False),
    ):
        pass


def test_what_a_cluster_is_handed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "_options", StorageConfig(retries=3))
    monkeypatch.setattr(session.os, "environ", {"AWS_ACCESS_KEY_ID": "1", "HOME": "2"})
    variables = worker_environment()["worker_process_setup_hook"].variables
    assert set(variables) == {"AWS_ACCESS_KEY_ID", "PFIT_RAY_STORAGE"}
    assert StorageConfig.model_validate_json(variables["PFIT_RAY_STORAGE"]) == StorageConfig(retries=3)
    monkeypatch.setattr(drivers, "_options", StorageConfig())
    monkeypatch.setattr(session.os, "environ", {"HOME": "2"})
    assert worker_environment() == {}


def ray_gpus(text: str) -> str:
    """The number of GPUs in a printed size: whatever this machine has."""
    return text.partition(" CPU, ")[2].partition(" GPU")[0]
