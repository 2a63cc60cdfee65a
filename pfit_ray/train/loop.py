"""The training loop that all networks share."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pfit_ray.config.training import TrainingConfig
from pfit_ray.errors import UserError
from pfit_ray.train.batches import Batch, EpochOrder, Slot, load_batches, steps_per_epoch
from pfit_ray.train.examples import Examples, View
from pfit_ray.train.features import FeatureCache
from pfit_ray.train.objective import Features, Objective
from pfit_ray.train.optimiser import make_optimiser, poly_factor, set_learning_rate

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
IMAGE_FORMAT = torch.channels_last
"""Layout of images, maps and filters in memory: the one that tensor cores, and separable convolutions on CPUs, take."""

LOG_STEPS = 10
"""Optimiser steps per line of the metrics; losses leave the GPU only then."""

Record = dict[str, Any]
"""One line of the metrics: means over a few steps."""


class StopTrainingError(UserError):
    """A failure that all workers meet at the same step, and would meet again after a restart."""


@dataclass(frozen=True)
class Workers:
    """This worker among the data-parallel workers of a training."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over all workers, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether the flag of any worker is set."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())

    def gather(self, value: Any) -> list[Any]:
        """A small value of every worker, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


class Trainer:
    """Trains one network, epoch by epoch; a restart needs nothing but its state after an epoch.

    Randomness follows from seed, epoch and rank. A training that was stopped and continued therefore ends with the
    weights of an undisturbed one (bit for bit on CPUs).

    Args:
        name: of the network, for messages.
        objective: network and losses; it moves to the worker's device.
        examples: what it learns from.
        training: the recipe.
        seed: seed of the run.
        workers: this worker among all.
        loader_threads: threads that load images ahead.
        features_mb: MiB of the features of a frozen backbone that are kept.
    """

    def __init__(
        self,
        name: str,
        objective: Objective,
        examples: Examples,
        training: TrainingConfig,
        *,
        seed: int,
        workers: Workers,
        loader_threads: int = 0,
        features_mb: int = 0,
    ) -> None:
        self.name = name
        self.objective = objective.to(workers.device, memory_format=IMAGE_FORMAT)  # type: ignore[call-overload]
        self.examples = examples
        self.training = training
        self.seed = seed
        self.workers = workers
        self.loader_threads = loader_threads
        self.epoch = 0
        self.step = 0
        self.max_step = training.epochs * steps_per_epoch(len(examples), training.batch_size)
        self.optimiser = make_optimiser(cast(Any, objective.network).parameter_groups(), training)
        cached = training.views and getattr(objective.network, "frozen", False)
        self.features = FeatureCache(objective.network, features_mb << 20) if cached else None
        self.scaler = torch.amp.GradScaler(workers.device.type, enabled=training.precision == "float16")
        self.module: nn.Module = self.objective
        if workers.size > 1:
            # Every worker normalises with the statistics of its own share; the first worker's are stored.
            self.module = DistributedDataParallel(self.objective, broadcast_buffers=False)

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "max_step": self.max_step,
            "network": self.objective.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Raises:
            StopTrainingError: when it belongs to a training of another length.
        """
        if state["max_step"] != self.max_step:
            raise StopTrainingError(
                f"training of {self.name}: its checkpoint belongs to a training of {state['max_step']} steps and this "
                f"one has {self.max_step}, so images, batch size or epochs changed; train anew"
            )
        self.epoch, self.step = state["epoch"], state["step"]
        self.objective.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])

    def run_epoch(self, on_record: Callable[[Record], None]) -> None:
        """Train for one epoch.

        Args:
            on_record: is given one record every few steps; the last one of the epoch lists the images that could not
                be used under `skipped`.

        Raises:
            StopTrainingError: when the loss or the weights are no longer finite.
            UserError: when no example can be used.
        """
        self.module.train()
        torch.manual_seed(derived_seed(self.seed, self.epoch, self.workers.rank))
        skipped: dict[str, str] = {}
        window = Window()
        examples, size = len(self.examples), self.training.batch_size
        shares = EpochOrder(examples, size, self.seed, self.epoch, self.workers.rank, self.workers.size)
        for number, batch in enumerate(self._load(shares), start=1):
            skipped.update(batch.skipped)
            for image_id, message in batch.skipped:
                logger.warning("training of %s: image %r cannot be used: %s", self.name, image_id, message)
            window.waited += batch.waited
            window.weights.append(self.objective.weights(self.step, self.max_step))
            window.parts.append(self._train_step(batch))
            self.step += 1
            if number == len(shares):
                record = self._record(window)
                self._check_weights()
                record["skipped"] = self._gather_skipped(skipped)
                self.epoch += 1
                on_record(record)
            elif number % LOG_STEPS == 0:
                on_record(self._record(window))
                window = Window()

    def _load(self, shares: Sequence[list[Slot]]) -> Iterator[Batch]:
        return load_batches(
            self.examples,
            shares,
            self.epoch,
            accumulate=self.training.accumulate,
            threads=self.loader_threads,
            pin_memory=self.workers.device.type == "cuda",
        )

    def _train_step(self, batch: Batch) -> Tensor:
        """One update of the weights; returns this worker's contribution to the parts of the loss (P,)."""
        device = self.workers.device
        micro_batches = [
            (
                images.to(device, non_blocking=True, memory_format=IMAGE_FORMAT),
                targets.to(device, non_blocking=True),
                views,
            )
            for images, targets, views in batch.micro_batches
        ]
        terms = torch.stack([self.objective.terms(targets) for _, targets, _ in micro_batches])
        shares = (terms / self.workers.sum(terms.sum(dim=0)).clamp(min=1)).float()
        weights = torch.tensor(self.objective.weights(self.step, self.max_step), device=device)
        factor = poly_factor(self.step, self.max_step, self.training.poly_power)
        set_learning_rate(self.optimiser, factor)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros(len(self.objective.parts), device=device)
        for number, ((images, targets, views), share) in enumerate(zip(micro_batches, shares, strict=True), start=1):
            with self._gradients_stay_local(number < len(micro_batches)):
                with self._autocast():
                    parts = self.module(self._inputs(images, views), targets) * share
                # Several workers average their gradients; their losses are shares of one loss, to be summed.
                self.scaler.scale((parts * weights).sum() * self.workers.size).backward()
            total += parts.detach()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return total

    def _inputs(self, images: Tensor, views: list[View]) -> Tensor | Features:
        if self.features is None:
            return images
        return Features(self.features.batch(images, views), (images.shape[2], images.shape[3]))

    def _gradients_stay_local(self, local: bool) -> AbstractContextManager[object]:
        if local and isinstance(self.module, DistributedDataParallel):
            return self.module.no_sync()
        return nullcontext()

    def _autocast(self) -> AbstractContextManager[object]:
        if self.training.precision == "float32":
            return nullcontext()
        return torch.autocast(self.workers.device.type, dtype=getattr(torch, self.training.precision))

    def _record(self, window: "Window") -> Record:
        parts = self.workers.sum(torch.stack(window.parts)).double().cpu().numpy()
        losses = (parts * np.array(window.weights)).sum(axis=1)
        steps = len(losses)
        for step, loss in enumerate(losses, start=self.step - steps + 1):
            if not math.isfinite(loss):
                raise StopTrainingError(
                    self._not_finite(f"the loss became {loss} in epoch {self.epoch + 1} at step {step}")
                )
        seconds = time.perf_counter() - window.began
        images = steps * self.training.batch_size
        return {
            "epoch": self.epoch + 1,
            "step": self.step,
            "max_step": self.max_step,
            "loss": float(losses.mean()),
            **dict(zip(self.objective.parts, parts.mean(axis=0).tolist(), strict=True)),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "images": images,
            "seconds": seconds,
            "images_per_second": images / seconds,
            "data_wait": window.waited / seconds,
        }

    def _check_weights(self) -> None:
        state = self.objective.network.state_dict().values()
        wrong = torch.stack([~torch.isfinite(tensor).all() for tensor in state]).any()
        if self.workers.any(bool(wrong)):
            raise StopTrainingError(self._not_finite(f"the weights are no longer finite after epoch {self.epoch + 1}"))

    def _not_finite(self, what: str) -> str:
        advice = f"lower {self.name}.train.learning_rate ({self.training.learning_rate:g})"
        if self.training.precision != "float32":
            advice += f" or set {self.name}.train.precision=float32 instead of {self.training.precision}"
        return f"training of {self.name}: {what}; {advice}"

    def _gather_skipped(self, skipped: dict[str, str]) -> dict[str, str]:
        together: dict[str, str] = {}
        for one in self.workers.gather(skipped):
            together.update(one)
        return together


@dataclass
class Window:
    """Collects a few steps for one record."""

    parts: list[Tensor] = field(default_factory=list)
    weights: list[tuple[float, ...]] = field(default_factory=list)
    waited: float = 0.0
    began: float = field(default_factory=time.perf_counter)


def derived_seed(*words: int) -> int:
    """A seed of 64 bits from several numbers."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
