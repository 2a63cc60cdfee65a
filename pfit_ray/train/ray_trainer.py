"""Ray Train's trainer, which starts fewer processes and does not swallow a Ctrl-C."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import ray
from ray.train.torch import TorchTrainer

from pfit_ray.cluster.session import inherited

SETTINGS = {
    # Each epoch's report waits until Ray Train's controller looks for it: by default every 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # A process that warns workers of a preemption; ours continue from their last epoch without a warning.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Environment variables of Ray Train, where the user has not set them."""


class RayTrainer(TorchTrainer):
    """Remembers a Ctrl-C that comes while a training ends, and starts no process that has nothing to do."""

    interrupted = False

    def _register_sigint_handler(self, controller: Any) -> None:
        super()._register_sigint_handler(controller)
        abort = signal.getsignal(signal.SIGINT)

        def remember(number: int, frame: FrameType | None) -> None:
            self.interrupted = True
            if callable(abort):
                abort(number, frame)

        signal.signal(signal.SIGINT, remember)

    def _create_default_callbacks(self) -> list[Any]:
        unneeded = {"DatasetsCallback"}  # manages Ray Datasets; there are none
        if not ray._private.worker.get_dashboard_url():
            # It asks the dashboard whether the controller lives, and each training would wait 10 s for the last answer.
            unneeded.add("PlacementGroupCleanerCallback")
        return [one for one in super()._create_default_callbacks() if type(one).__name__ not in unneeded]


def fit(trainer: RayTrainer) -> dict[str, Any]:
    """What a training's first worker returns.

    Raises:
        KeyboardInterrupt: when a Ctrl-C came, at any moment.
        TrainingFailedError: when workers were lost more often than the trainer allows.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        with inherited({name: value for name, value in SETTINGS.items() if name not in os.environ}):
            outcome = dict(trainer.fit().return_value)
    except SystemExit as error:  # how Ray Train leaves after Ctrl-C, and with exit code 0
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return outcome
