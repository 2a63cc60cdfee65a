"""Unsupervised segmentation: the vote of the superpixels, and one iteration of the CNN on two threads."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from comparison import Comparison, Timed, peak_megabytes, photograph, timed, timed_in_turn
from numpy.typing import NDArray
from torch import Tensor, nn

from pfit_ray.ops.regions.uss import initial_layers
from pfit_ray.ops.regions.uss_fused import FusedNetwork, each_block, first_weights
from pfit_ray.ops.regions.uss_vote import majority_vote
from pfit_ray.ops.superpixels.superpixels import slic_superpixels

CHANNELS = 32
THREADS = 2
VOTE_SECONDS, STEP_SECONDS, FAST_STEP_SECONDS = 0.002, 0.6, 0.2


def loop_of_uniques(labels: NDArray[np.integer], superpixels: NDArray[np.integer]) -> NDArray[np.integer]:
    """The vote as the published program takes it, with the pixels of each superpixel listed beforehand."""
    voted = labels.ravel().copy()
    for inside in np.split(np.argsort(superpixels, axis=None), np.bincount(superpixels.ravel()).cumsum()[:-1]):
        values, counts = np.unique(voted[inside], return_counts=True)
        if len(values):
            voted[inside] = values[counts.argmax()]
    return voted.reshape(labels.shape)


def plain_network() -> nn.Sequential:
    """Torch's own layers in their default layout, with the first weights of the package."""
    network = nn.Sequential()
    for index, (weight, bias, _, _) in enumerate(initial_layers()):
        n_out, n_in, side, _ = weight.shape
        convolution = nn.Conv2d(n_in, n_out, side, padding=side // 2)
        convolution.weight.data, convolution.bias.data = weight.detach(), bias.detach()
        network.extend([*([nn.ReLU()] if index else []), convolution, nn.BatchNorm2d(n_out)])
    return network


def torch_step(network: nn.Module, pixels: Tensor, target: Tensor) -> Callable[[], NDArray[np.integer]]:
    """An iteration without its vote: forwards, strongest channels, backwards, step."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)

    def step() -> NDArray[np.integer]:
        optimiser.zero_grad()
        values = network(pixels)[0].permute(1, 2, 0).reshape(-1, CHANNELS)
        labels = values.detach().argmax(dim=1).numpy()
        F.cross_entropy(values, target).backward()
        optimiser.step()
        return labels

    return step


def _equal(one: Timed, other: Timed) -> str:
    return f"{100 * (one.result.ravel() == other.result.ravel()).mean():.2f} % of labels"


def compare(device: str) -> Iterator[Comparison]:
    """Yield the rows of the unsupervised segmentation."""
    image = photograph()
    superpixels = slic_superpixels(image)
    noise = np.random.default_rng(0).integers(0, CHANNELS, superpixels.shape)
    slow, ours = timed_in_turn(
        [lambda: loop_of_uniques(noise, superpixels), lambda: majority_vote(noise, superpixels, CHANNELS)], repeat=20
    )
    yield Comparison(
        f"majority vote, {len(np.unique(superpixels))} superpixels",
        "loop of uniques",
        slow.seconds,
        ours.seconds,
        peak_megabytes(lambda: majority_vote(noise, superpixels, CHANNELS)),
        "identical" if np.array_equal(slow.result, ours.result) else "different",
        f"<= {VOTE_SECONDS * 1000:.0f} ms",
        ours.seconds <= VOTE_SECONDS,
    )
    yield from _iterations(image, majority_vote(noise, superpixels, CHANNELS))


def _iterations(image: NDArray[np.uint8], voted: NDArray[np.int64]) -> Iterator[Comparison]:
    torch.set_num_threads(THREADS)
    pixels = torch.from_numpy(image.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None].contiguous()
    target = torch.from_numpy(voted.ravel())
    half = pixels.bfloat16().to(memory_format=torch.channels_last)
    fused = FusedNetwork(image, first_weights())
    with each_block(fused.blocks, THREADS) as each:

        def fused_step() -> NDArray[np.integer]:
            labels = fused.labels(each)
            fused.learn(each, voted, 0.05, 0.9)
            return labels

        first = timed(torch_step(plain_network(), pixels, target), repeat=1, warm_up=0)
        steps = [torch_step(plain_network(), pixels, target), fused_step]
        plain, ours = timed_in_turn(steps, repeat=3)
    # Takes long where the CPU has no instructions for bfloat16, so once must do.
    rounded = timed(torch_step(plain_network().bfloat16(), half, target), repeat=1, warm_up=0)
    for name, result, limit, equality in (
        ("fused float32", ours, STEP_SECONDS, f"{_equal(ours, plain)} in iteration 4"),
        ("torch's layers, bfloat16", rounded, FAST_STEP_SECONDS, f"{_equal(rounded, first)} in iteration 1"),
    ):
        yield Comparison(
            f"CNN iteration, {name}, {THREADS} threads",
            "torch's layers, float32",
            plain.seconds,
            result.seconds,
            None,
            equality,
            f"<= {limit:.1f} s",
            result.seconds <= limit,
        )
