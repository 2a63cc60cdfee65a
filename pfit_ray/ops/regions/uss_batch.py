"""Unsupervised segmentation of several images of one size at once, for GPUs, where one image leaves units idle.

The CNNs of all images are one CNN with grouped convolutions, a group for each image. Batch normalisation works channel
by channel and SGD number by number, so both keep the images apart.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.ops.regions.uss import exact_arithmetic, initial_layers
from pfit_ray.ops.regions.uss_vote import PUBLISHED, Regions, UssOptions, check_sizes, majority_vote

State = list[Tensor]
"""Each tensor holds the weights, biases, scales or shifts of all images, (images * channels, ...)."""


def segment_unsupervised_batch(
    images: Sequence[NDArray[np.uint8]],
    superpixels: Sequence[NDArray[np.integer]],
    options: UssOptions = PUBLISHED,
    *,
    threads: int = 1,
    device: str | torch.device = "cuda",
) -> list[Regions]:
    """Merge the superpixels of several images, each as `segment_unsupervised` would alone.

    Images that have few enough labels leave the batch; the others go on. Only the order of sums can differ from that
    of an image alone, so rounding decides a vote differently now and then.

    Args:
        images: uint8 (H, W, 3), all of one size.
        superpixels: integers (H, W), 0 or larger, of each image.
        options: see `UssOptions`; each image starts from the same weights.
        threads: see `segment_unsupervised`.
        device: where the CNNs run.

    Returns:
        The regions of each image.

    Raises:
        ValueError: when sizes or the number of images and superpixels differ.
    """
    if len(images) != len(superpixels):
        raise ValueError(f"{len(images)} images, but superpixels of {len(superpixels)}")
    for image, ids in zip(images, superpixels, strict=True):
        check_sizes(image, ids)
        if image.shape != images[0].shape:
            raise ValueError(f"images {images[0].shape[:2]} and {image.shape[:2]} differ in size")
    if not images or images[0].shape[:2] == (1, 1):  # batch statistics of one pixel: channel 0 wins
        return [Regions(np.zeros((1, 1), np.uint8), np.zeros(1, np.int64), (1,)) for _ in images]
    device = torch.device(device)
    stacked = np.stack(images).astype(np.float32) / np.float32(255)
    pixels = torch.from_numpy(stacked).to(device).permute(0, 3, 1, 2).contiguous()
    layers = initial_layers(options, device=device)
    state = [part.detach().repeat(len(images), *[1] * (part.ndim - 1)) for layer in layers for part in layer]
    speeds = [torch.zeros_like(part) for part in state]
    counts: list[list[int]] = [[] for _ in images]
    found: dict[int, Regions] = {}
    running = list(range(len(images)))
    with exact_arithmetic(threads):
        while True:
            state = [part.requires_grad_() for part in state]
            with torch.enable_grad():
                values = _channel_values(pixels, state)
            strongest = values.detach().argmax(dim=1).cpu().numpy()
            votes = []
            going = []
            for place, index in enumerate(running):
                voted = majority_vote(strongest[place], superpixels[index], options.n_channels)
                present = np.bincount(voted.ravel(), minlength=options.n_channels) > 0
                counts[index].append(int(present.sum()))
                if counts[index][-1] < options.min_labels or len(counts[index]) == options.max_iterations:
                    found[index] = Regions.of(voted, present, counts[index])
                else:
                    going.append(place)
                    votes.append(voted)
            if not going:
                return [found[index] for index in range(len(images))]
            # The sum over images of each one's mean, so that none weighs on another's gradient.
            size = votes[0].size
            target = torch.from_numpy(np.stack(votes)).to(device)
            with torch.enable_grad():
                loss = F.cross_entropy(values[going], target, reduction="sum") / size
            gradients = torch.autograd.grad(loss, state)
            del values, loss
            with torch.no_grad():
                for part, speed, gradient in zip(state, speeds, gradients, strict=True):
                    speed.mul_(options.momentum).add_(gradient)
                    part.sub_(speed, alpha=options.learning_rate)
                if len(going) < len(running):
                    state = [_kept(part, going, len(running)) for part in state]
                    speeds = [_kept(speed, going, len(running)) for speed in speeds]
                    pixels = pixels[going].contiguous()
                    running = [running[place] for place in going]


def _channel_values(pixels: Tensor, state: State) -> Tensor:
    """Run all CNNs on images (N, 3, H, W); returns (N, n_channels, H, W)."""
    count, _, height, width = pixels.shape
    x = pixels.reshape(1, -1, height, width)
    for start in range(0, len(state), 4):
        weight, bias, scale, shift = state[start : start + 4]
        x = F.conv2d(F.relu_(x) if start else x, weight, bias, padding=weight.shape[-1] // 2, groups=count)
        x = F.batch_norm(x, None, None, scale, shift, training=True)
    return x.reshape(count, -1, height, width)


def _kept(part: Tensor, places: list[int], count: int) -> Tensor:
    """The numbers of some of the images."""
    return part.detach().unflatten(0, (count, -1))[places].flatten(0, 1).contiguous()
