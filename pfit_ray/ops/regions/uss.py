"""Unsupervised segmentation: a small CNN, trained on one image, merges its superpixels into regions."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.ops.regions.uss_vote import PUBLISHED, Regions, UssOptions, check_sizes, merge_by_votes

Layer = tuple[Tensor, Tensor, Tensor, Tensor]
"""Weight and bias of a convolution, scale and shift of the batch normalisation behind it."""


def initial_layers(options: UssOptions = PUBLISHED, *, device: str | torch.device = "cpu") -> list[Layer]:
    """First weights: what torch's layers draw when they are made in this order after `manual_seed(seed)`.

    The generator is our own, so the global random state stays as it is.

    Args:
        options: the seed and the channels.
        device: where the layers lie.

    Returns:
        Four layers of float32 tensors that take gradients.
    """
    generator = torch.Generator().manual_seed(options.seed)
    hidden, n_channels = options.hidden, options.n_channels
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
    options: UssOptions = PUBLISHED,
    *,
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
        options: see `UssOptions`.
        threads: CPU threads of torch. They change the result, not only the speed: their number decides the
            order of sums, and a last bit can decide a vote; about every fifth image shows it.
        device: where the CNN runs.

    Returns:
        The regions, as voted in the last iteration.

    Raises:
        ValueError: when the sizes differ.
    """
    check_sizes(image, superpixels)
    if superpixels.size == 1:  # batch statistics of one pixel: every channel is 0, so channel 0 wins
        return Regions(np.zeros((1, 1), np.uint8), np.zeros(1, np.int64), (1,))
    device = torch.device(device)
    pixels = torch.from_numpy(image.astype(np.float32) / np.float32(255)).to(device)
    pixels = pixels.permute(2, 0, 1)[None].contiguous()
    layers = initial_layers(options, device=device)
    parameters = [p for layer in layers for p in layer]
    optimiser = torch.optim.SGD(parameters, lr=options.learning_rate, momentum=options.momentum)
    values = pixels

    def strongest() -> NDArray[np.integer]:
        nonlocal values
        values = _channel_values(pixels, layers)
        channels: NDArray[np.integer] = values.detach().argmax(dim=1).cpu().numpy()
        return channels.reshape(superpixels.shape)

    def learn(voted: NDArray[np.int64]) -> None:
        optimiser.zero_grad()
        F.cross_entropy(values, torch.from_numpy(voted.ravel()).to(device)).backward()
        optimiser.step()

    with exact_arithmetic(threads):
        return merge_by_votes(strongest, learn, superpixels, options)
