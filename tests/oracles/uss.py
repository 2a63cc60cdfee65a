import numpy as np
import torch
from torch import nn


def slow_majority_vote(labels, superpixels):
    voted = np.empty_like(labels)
    for superpixel in np.unique(superpixels):
        inside = superpixels == superpixel
        values, counts = np.unique(labels[inside], return_counts=True)
        voted[inside] = values[np.argmax(counts)]
    return voted


def published_segmentation(bgr, superpixels, threads=2):
    """The published program's loop with torch's own layers: labels of each iteration, (H, W) channels each."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(43)
            network = nn.Sequential(
                nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
                nn.Conv2d(64, 32, 1), nn.BatchNorm2d(32), nn.ReLU(),
                nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
                nn.Conv2d(64, 32, 1), nn.BatchNorm2d(32),
            )  # fmt: skip
            optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
            image = torch.from_numpy(np.array(bgr.transpose(2, 0, 1)[None], np.float32, order="C") / np.float32(255))
            found = []
            for _ in range(64):
                optimiser.zero_grad()
                values = network(image)[0].permute(1, 2, 0).contiguous().view(-1, 32)
                strongest = values.max(dim=1).indices.numpy().reshape(superpixels.shape)
                found.append(slow_majority_vote(strongest, superpixels))
                nn.functional.cross_entropy(values, torch.from_numpy(found[-1].ravel())).backward()
                optimiser.step()
                if len(np.unique(found[-1])) < 20:
                    return found
            return found
    finally:
        torch.set_num_threads(before)
