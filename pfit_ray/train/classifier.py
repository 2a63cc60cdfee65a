"""Training of the CAM classifier, plain or with the Puzzle loss (PuzzleCAM, Jo & Yu, ICIP 2021)."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pfit_ray.config import RunConfig
from pfit_ray.config.training import PuzzleConfig
from pfit_ray.errors import RowError
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.puzzle import merge, puzzle_alpha, puzzle_loss, tile
from pfit_ray.train.objective import Objective


class ClassifierObjective(Objective):
    """Multi-label soft margin loss; with the puzzle also that of merged tiles and their distance to the whole.

    Args:
        network: the classifier.
        n_classes: number of foreground classes, K.
        puzzle: whether and how tiles are used.
    """

    with_labels = False

    def __init__(self, network: CamClassifier, n_classes: int, puzzle: PuzzleConfig) -> None:
        super().__init__(network)
        self.n_classes = n_classes
        self.puzzle = puzzle
        self.parts = ("classification",)
        if puzzle.enabled:
            self.parts += ("reclassification", "reconstruction")

    def make_target(self, keys: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The present classes as 0 and 1: (K,)."""
        if len(keys) and not 1 <= keys.min() <= keys.max() <= self.n_classes:
            raise RowError("unknown_class", f"class ids {keys.tolist()} are not all in 1..{self.n_classes}")
        target = np.zeros(self.n_classes, np.float32)
        target[keys - 1] = 1.0
        return target

    def terms(self, targets: Tensor) -> Tensor:
        """All parts are means over images."""
        return torch.full((len(self.parts),), len(targets), dtype=torch.float64, device=targets.device)

    def weights(self, step: int, max_step: int) -> tuple[float, ...]:
        """1, 1, and a ramp for the distance."""
        if not self.puzzle.enabled:
            return (1.0,)
        return 1.0, 1.0, puzzle_alpha(step, max_step, self.puzzle.alpha, self.puzzle.schedule)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Losses of a batch."""
        maps = self.network(images).float()
        if not self.puzzle.enabled:
            return F.multilabel_soft_margin_loss(maps.mean(dim=(2, 3)), targets)[None]
        merged = merge(self.network(tile(images, self.puzzle.pieces)).float(), self.puzzle.pieces)
        loss = puzzle_loss(maps, merged, targets, alpha=1.0)
        return torch.stack([loss.classification, loss.reclassification, loss.reconstruction])


def classifier_network(config: RunConfig) -> CamClassifier:
    """The classifier that a run's config describes, with random weights."""
    own = config.classifier
    return CamClassifier(own.backbone.name, len(config.data.class_list), fixed_bn=own.fixed_bn)


def classifier_objective(config: RunConfig) -> ClassifierObjective:
    """The classifier and its losses."""
    n_classes = len(config.data.class_list)
    return ClassifierObjective(classifier_network(config), n_classes, config.classifier.puzzle)
