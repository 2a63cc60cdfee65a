"""Unsupervised segmentation: a small CNN, trained on one image, merges its superpixels into regions."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.ops.regions.uss_vote import Regions, check_input, majority_vote

Layer = tuple[Tensor, Tensor, Tensor, Tensor]
"""Weight and bias of a convolution, scale and shift of the batch normalisation behind it."""


def initial_layers(
    seed: int, *, hidden: int = 64, n_channels: int = 32, device: str | torch.device = "cpu"
) -> list[Layer]:
    """First weights: what torch's layers draw when they are made in this order after `manual_seed(seed)`.

    The generator is our own, so the global random state stays as it is.

    Args:
        seed: seed of the generator.
        hidden: see `segment_unsupervised`.
        n_channels: see `segment_unsupervised`.
        device: where the layers lie.

    Returns:
        Four layers of float32 tensors that take gradients.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = [(hidden, 3, 3, 3), (n_channels, hidden, 1, 1)]
    shapes += [(hidden, n_channels, 3, 3), (n_channels, hidden, 1, 1)]
    layers = []
    for shape in shapes:
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weight = torch.nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5), generator=generator)
        bias = torch.empty(shape[0]).uniform_(-bound, bound, generator=generator)
        tensors = (weight, bias, torch.ones(shape[0]), torch.zeros(shape[0]))
        a, b, c, d = (tensor.to(device).requires_grad_() for tensor in tensors)
        layers.append((a, b, c, d))
    return layers


def _channel_values(x: Tensor, layers: list[Layer]) -> Tensor:
    """Run the CNN on an image (1, 3, H, W); returns (H * W, n_channels)."""
    for index, (weight, bias, scale, shift) in enumerate(layers):
        x = F.conv2d(F.relu_(x) if index else x, weight, bias, padding=weight.shape[-1] // 2)
        x = F.batch_norm(x, None, None, scale, shift, training=True)
    # `x[0]` keeps the gradient in channel order, where torch sums the statistics of a batch more precisely.
    return x[0].permute(1, 2, 0).reshape(-1, x.shape[1])


@contextmanager
def exact_arithmetic(threads: int) -> Iterator[None]:
    """Fix what decides the order and the precision of sums in torch, and put it back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


@torch.enable_grad()
def segment_unsupervised(
    image: NDArray[np.uint8],
    superpixels: NDArray[np.integer],
    *,
    seed: int = 43,
    max_iterations: int = 64,
    min_labels: int = 20,
    learning_rate: float = 0.05,
    momentum: float = 0.9,
    hidden: int = 64,
    n_channels: int = 32,
    threads: int = 1,
    device: str | torch.device = "cpu",
) -> Regions:
    """Merge superpixels into regions (Kanezaki, ICASSP 2018, as PerimeterFit uses it).

    Each iteration labels every pixel with its strongest channel, lets every superpixel vote for one
    label, and trains the CNN one step towards that vote. It stops as soon as fewer than `min_labels`
    labels are left, which happens after 2 to 12 iterations on natural images.

    Args:
        image: uint8 (H, W, 3). The published PerimeterFit programs pass BGR.
        superpixels: integers (H, W), 0 or larger.
        seed: seed of the first weights. The global random state of torch is neither read nor changed.
        max_iterations: upper bound of the iterations, at least 1.
        min_labels: stop when fewer labels than this are left.
        learning_rate: learning rate of SGD.
        momentum: momentum of SGD.
        hidden: channels of the two 3x3 convolutions.
        n_channels: channels of the two 1x1 convolutions, the largest possible number of regions; 2..256.
        threads: CPU threads of torch. Part of the result, not only of the speed: their number decides the
            order of sums, and a last bit can decide a vote; about every fifth image shows it.
        device: where the CNN runs.

    Returns:
        The regions, as voted in the last iteration.

    Raises:
        ValueError: when the sizes differ or `n_channels` or `max_iterations` is out of range.
    """
    check_input(image, superpixels, n_channels, max_iterations)
    if superpixels.size == 1:  # batch statistics of one pixel: every channel is 0, so channel 0 wins
        return Regions(np.zeros((1, 1), np.uint8), np.zeros(1, np.int64), (1,))
    device = torch.device(device)
    pixels = torch.from_numpy(image.astype(np.float32) / np.float32(255)).to(device)
    pixels = pixels.permute(2, 0, 1)[None].contiguous()
    layers = initial_layers(seed, hidden=hidden, n_channels=n_channels, device=device)
    optimiser = torch.optim.SGD([p for layer in layers for p in layer], lr=learning_rate, momentum=momentum)
    labels_per_iteration = []
    with exact_arithmetic(threads):
        while True:
            values = _channel_values(pixels, layers)
            strongest = values.detach().argmax(dim=1).cpu().numpy().reshape(superpixels.shape)
            voted = majority_vote(strongest, superpixels, n_channels)
            present = np.bincount(voted.ravel(), minlength=n_channels) > 0
            labels_per_iteration.append(int(present.sum()))
            if labels_per_iteration[-1] < min_labels or len(labels_per_iteration) == max_iterations:
                break
            optimiser.zero_grad()
            F.cross_entropy(values, torch.from_numpy(voted.ravel()).to(device)).backward()
            optimiser.step()
    return Regions.of(voted, present, labels_per_iteration)
