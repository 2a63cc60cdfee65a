"""The affinity loss of a training batch, forward and backward, against gathered paths."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from comparison import Comparison, peak_megabytes, timed_in_turn
from torch import Tensor

from pfit_ray.ops.affinity.affinity import affinity_losses
from pfit_ray.ops.affinity.path_index import destination_offsets

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from oracles.affinity import gathered_loss

BATCH, SIDE, RADIUS = 8, 128, 10
FASTER = 3.0
EDGE_MEGABYTES = BATCH * SIDE * SIDE * 4 / 2**20


def labelled_batch(device: str) -> tuple[Tensor, Tensor]:
    """Random edge logits, and labels of a few classes in squares, every fifth one ignored."""
    generator = torch.Generator().manual_seed(0)
    squares = torch.tensor([0, 0, 1, 15, 255], dtype=torch.uint8)[torch.randint(5, (BATCH, 8, 8), generator=generator)]
    labels = squares.repeat_interleave(SIDE // 8, 1).repeat_interleave(SIDE // 8, 2)
    return torch.randn(BATCH, SIDE, SIDE, generator=generator).to(device), labels.to(device)


def affinity_loss(logits: Tensor, labels: Tensor, radius: int) -> Tensor:
    """The loss of AffinityNet from its parts, as the training weighs them."""
    losses = affinity_losses(logits, labels, radius)
    return losses.bg_pos / 4 + losses.fg_pos / 4 + losses.neg / 2


def compare(device: str) -> Iterator[Comparison]:
    """Yield a row for one thread and one for two; on a GPU one row."""
    logits, labels = labelled_batch(device)

    def step(loss_of: Callable[[Tensor, Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
        leaf = logits.clone().requires_grad_()
        loss = loss_of(leaf, labels, RADIUS)
        loss.backward()
        assert leaf.grad is not None
        return loss.detach().cpu(), leaf.grad.cpu()

    limit = 2 * EDGE_MEGABYTES * len(destination_offsets(RADIUS))
    on_gpu = device.startswith("cuda")
    # Before the oracle runs: what it frees would hide what ours takes.
    peak = (_cuda_peak if on_gpu else peak_megabytes)(lambda: step(affinity_loss))
    for threads in (1,) if on_gpu else (1, 2):
        torch.set_num_threads(threads)
        slow, ours = timed_in_turn([lambda: step(gathered_loss), lambda: step(affinity_loss)], repeat=3)
        (slow_loss, slow_gradient), (loss, gradient) = slow.result, ours.result
        off = float((gradient - slow_gradient).abs().max() / slow_gradient.abs().max())
        loss_off = abs(float(loss / slow_loss) - 1)
        faster = slow.seconds / ours.seconds
        yield Comparison(
            f"affinity loss and gradient, {device if on_gpu else f'{threads} thread(s)'}",
            "gathered paths",
            slow.seconds,
            ours.seconds,
            peak,
            f"loss within {loss_off:.0e}, gradient within {off:.0e} of its maximum",
            f">= {FASTER:g} x, <= {limit:.0f} MB",
            faster >= FASTER and (peak is None or peak <= limit) and loss_off < 1e-4 and off < 1e-4,
        )


def _cuda_peak(call: Callable[[], object]) -> float:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20
