"""What a run leaves of the process around it: everything as it was."""

import logging
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.data
from ray.exceptions import RayError
from support.faults import go, paint_plan, write_pictures

import pfit_ray as pf
from pfit_ray.cluster.session import ray_session
from pfit_ray.config.resources import ResourcesConfig


def state() -> dict[str, Any]:
    context = ray.data.DataContext.get_current()
    names = ("max_errored_blocks", "execution_no_progress_timeout_s", "enable_progress_bars",
             "print_on_execution_start", "max_consecutive_actor_init_deaths")  # fmt: skip
    return {
        "context": {name: getattr(context, name) for name in names},
        "levels": {name: logging.getLogger(name).level for name in ("ray", "ray.data", "gcsfs")},
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
    }


@pytest.mark.timeout(600)
def test_the_user_s_own_jobs_fail_as_ever_after_a_run(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_pictures(tmp_path, ("a", "b"), shard_size=1)
    before = state()

    def work(runner: Any, address: str | None, verbose: bool) -> Any:
        """The passes of a run, without its networks."""
        assert logging.getLogger("gcsfs").level == logging.CRITICAL
        with ray_session(address, ResourcesConfig(), verbose):
            assert dict(go(run, paint_plan(), [0, 1])) == {0: (1, 0), 1: (1, 0)}
        return SimpleNamespace(run=run)

    monkeypatch.setattr("pfit_ray.runner.run.Runner.run", work)
    pf.run({"output": run.root, "data": {"source": "samples"}})
    assert state() == before

    def fault(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] == 3:
            raise ValueError("the fourth of ten")
        return row

    with pytest.raises((RayError, ValueError)):
        ray.data.range(10, override_num_blocks=10).map(fault).take_all()
