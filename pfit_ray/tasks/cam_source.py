"""Stage: class activation maps of a source other than our classifier."""

from collections.abc import Sequence

import numpy as np

from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.constants import SKIPPED, Row, strided_size
from pfit_ray.data.cam_sources import CamMaps, CamSource
from pfit_ray.errors import RowError
from pfit_ray.ops.cam.cam import merge_cam_scales
from pfit_ray.tasks.base import Outcome, Stage, attempted, on_gpu, require_finite


class CamSourceStage(Stage):
    """Adds `cam` (float32 (K, h, w)), `cam_maps` (one (K, h', w') map, as the source gave it), `keys` and `key_scores`.

    Negative values are set to 0 and each class is divided by its own maximum, as those of the classifier are.

    Args:
        source: the source.
        predicted: what becomes of rows without a label in which the source finds no class.
        n_classes: number of foreground classes of the run.
    """

    name = "cam"
    reads = ("image", "image_id", "keys")
    adds = ("cam", "cam_maps", "keys", "key_scores", "labels_predicted", "label_scores")

    def __init__(self, source: CamSource, predicted: PredictedLabelsConfig, n_classes: int) -> None:
        self.source = source
        self.predicted = predicted
        self.n_classes = n_classes

    def setup(self) -> None:
        """Let the source load what it needs."""
        self.source.setup()

    @property
    def on_gpu(self) -> bool:
        """Whether the source has a network on a GPU."""
        return on_gpu(self.source)

    def process(self, row: Row) -> None:
        """Take the maps of the image's classes."""
        given = _label(row)
        nothing = CamMaps([], np.zeros((0, 1, 1)))
        self._take(row, nothing if given == [] else self.source.cam(row["image"], row["image_id"], given))

    def process_batch(self, rows: Sequence[Row]) -> list[Outcome]:
        """Take the maps of several images of one size; where the source cannot, of each by itself."""
        asked = [row for row in rows if _label(row) != []]
        if len(asked) < 2:
            return super().process_batch(rows)
        try:
            columns = zip(*((row["image"], row["image_id"], _label(row)) for row in asked), strict=True)
            found = dict(zip(map(id, asked), self.source.cam_batch(*columns), strict=True))
        except Exception:  # of one of them, or too little memory for all
            return super().process_batch(rows)
        return [
            attempted(self._take, row, found[id(row)]) if id(row) in found else attempted(self.process, row)
            for row in rows
        ]

    def _take(self, row: Row, found: CamMaps) -> None:
        given = _label(row)
        keys, maps = [int(key) for key in found.keys], np.asarray(found.maps)
        if maps.ndim != 3 or len(maps) != len(keys) or maps.size == 0 < len(keys):
            raise RowError("bad_cam", f"the source gave maps of shape {maps.shape} for {len(keys)} classes")
        if len(set(keys)) < len(keys) or not all(1 <= key <= self.n_classes for key in keys):
            raise RowError("bad_cam", f"the source gave maps of classes {keys}; each id is once in 1..{self.n_classes}")
        wanted = sorted(keys) if given is None else given
        lacking = [key for key in wanted if key not in keys]
        if lacking:
            raise RowError("bad_cam", f"the source has no map of class {lacking[0]}, only of {keys}")
        if given is None and not keys and self.predicted.empty != "background":
            reason = "no_label" if self.predicted.empty == "fail" else SKIPPED
            raise RowError(reason, "the CAM source found no class")
        self._add(row, wanted, np.asarray(maps, dtype=np.float32)[[keys.index(key) for key in wanted]])
        row["labels_predicted"] = given is None
        row["label_scores"] = None
        row["key_scores"] = _scores(found.scores, keys, wanted)

    def _add(self, row: Row, keys: list[int], maps: np.ndarray) -> None:
        require_finite(maps, "the class activation map")
        height, width = row["image"].shape[:2]
        if not keys:  # whatever size the source gave to no map
            maps = np.zeros((0, 1, 1), dtype=np.float32)
        row["keys"] = keys
        row["cam_maps"] = [np.maximum(maps, 0)]
        row["cam"] = merge_cam_scales(row["cam_maps"], *strided_size(height, width))


def _label(row: Row) -> list[int] | None:
    return None if row["keys"] is None else [int(key) for key in row["keys"]]


def _scores(scores: Sequence[float] | None, keys: list[int], wanted: list[int]) -> list[float] | None:
    if scores is None:
        return None
    if len(scores) != len(keys):
        raise RowError("bad_cam", f"the source gave {len(scores)} scores for {len(keys)} classes")
    return [float(scores[keys.index(key)]) for key in wanted]
