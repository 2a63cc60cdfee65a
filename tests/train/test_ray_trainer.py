import os
import signal
from types import SimpleNamespace

import pytest

from pfit_ray.train import ray_trainer
from pfit_ray.train.ray_trainer import RayTrainer, fit


def test_ctrl_c_that_ray_train_swallows(monkeypatch: pytest.MonkeyPatch) -> None:
    def swallow(trainer: object, controller: object) -> None:
        signal.signal(signal.SIGINT, lambda number, frame: None)

    class EndingTrainer(RayTrainer):
        def __init__(self) -> None:
            pass

        def fit(self) -> SimpleNamespace:
            self._register_sigint_handler(None)
            os.kill(os.getpid(), signal.SIGINT)
            return SimpleNamespace(return_value={})

    monkeypatch.setattr(ray_trainer.TorchTrainer, "_register_sigint_handler", swallow)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(EndingTrainer())
    assert signal.getsignal(signal.SIGINT) is before


def nothing() -> None:
    """A training without work."""


@pytest.mark.parametrize(("url", "cleaner"), [(None, False), ("", False), ("127.0.0.1:8265", True)])
def test_no_process_is_started_that_has_nothing_to_do(
    url: str | None, cleaner: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_trainer.ray._private.worker, "get_dashboard_url", lambda: url)
    started = {type(one).__name__ for one in RayTrainer(nothing)._create_default_callbacks()}
    assert "BackendSetupCallback" in started
    assert "DatasetsCallback" not in started
    assert ("PlacementGroupCleanerCallback" in started) is cleaner


def test_the_ray_of_the_tests_has_no_dashboard(local_ray: None) -> None:
    started = {type(one).__name__ for one in RayTrainer(nothing)._create_default_callbacks()}
    assert "PlacementGroupCleanerCallback" not in started
