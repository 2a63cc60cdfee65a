"""The training table, and how one of its rows becomes a training example."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pfit_ray import storage
from pfit_ray.config.credentials import redacted
from pfit_ray.config.training import TrainingConfig
from pfit_ray.data.image_bytes import PLACE_FIELDS, fetch_image
from pfit_ray.data.images import decode_image, decode_mask
from pfit_ray.errors import RowError, UserError
from pfit_ray.ops.cam.augment import augment
from pfit_ray.rundir.published import read_label

COLUMNS = (
    *("image_id", *(name for name, _ in PLACE_FIELDS), "keys"),
    *("label_url", "label_offset", "label_size"),
)
"""One image per row: where its bytes are (see `pfit_ray.rundir.manifest`), its class ids, and the bytes of its label
PNG inside a PNG shard, if it has one."""

MAX_SUBSTITUTES = 100
"""If so many examples in a row are unreadable, something is wrong with all of them."""

View = tuple[str, int, int]
"""Image id, number of the draw and repetition, from which an augmented image follows."""

MakeTarget = Callable[[NDArray[np.int32], NDArray[np.uint8]], NDArray[Any]]
"""What a network learns from class ids (K,) and the augmented label map (crop, crop)."""


@dataclass(frozen=True)
class Example:
    """One augmented training example."""

    image: NDArray[np.float32]
    """Normalised (3, crop, crop)."""
    target: NDArray[Any]
    """What the network learns from it."""
    view: View
    skipped: tuple[tuple[str, str], ...] = ()
    """Ids of the images that it replaces because they could not be used, with a message each."""


def read_examples(url: str) -> pa.Table:
    """Read a training table.

    Raises:
        UserError: when it is missing or has no rows.
    """
    if not storage.exists(url):
        raise UserError(f"training: there is no training table at {url}; run the pass that writes it first")
    with pq.ParquetFile(io.BytesIO(storage.read_bytes(url))) as file:
        table = file.read(list(COLUMNS))
    for name in COLUMNS:
        if name not in table.column_names:  # of an older version
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    if not table.num_rows:
        raise UserError(f"training: the training table {url} has no images; look at the failures of the run")
    return table.combine_chunks()


class Examples:
    """Augmented examples by index.

    An example depends only on the table, the seed, the epoch and its image id, not on workers, order or restarts.

    Args:
        table: with the columns `COLUMNS`.
        training: sizes of the augmentation.
        make_target: makes the target; may raise RowError.
        mean: mean of the RGB channels that the network expects.
        std: standard deviation of the RGB channels that the network expects.
        seed: seed of the run.
        max_pixels: larger images are refused.
        with_labels: read the label maps.
    """

    def __init__(
        self,
        table: pa.Table,
        training: TrainingConfig,
        make_target: MakeTarget,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int,
        max_pixels: int,
        with_labels: bool,
    ) -> None:
        self.table = table
        self.training = training
        self.make_target = make_target
        self.mean = mean
        self.std = std
        self.seed = seed
        self.max_pixels = max_pixels
        self.with_labels = with_labels

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def item(self, index: int, epoch: int, repeat: int = 0) -> Example:
        """The example at an index in an epoch, or the next usable one if it cannot be used.

        Args:
            index: row of the table.
            epoch: 0, 1, ...; draws come again after `TrainingConfig.views` epochs.
            repeat: 0, 1, ... where a small table is repeated to fill a batch: each repetition is drawn anew.

        Raises:
            UserError: when no example can be used.
        """
        skipped: list[tuple[str, str]] = []
        draw = epoch % self.training.views if self.training.views else epoch
        for step in range(min(len(self), MAX_SUBSTITUTES)):
            row = {name: self.table[name][(index + step) % len(self)].as_py() for name in COLUMNS}
            try:
                image, target = self._draw(row, draw, repeat)
            except RowError as error:
                skipped.append((row["image_id"], redacted(error.message)))
            except Exception as error:  # one bad row must not end a training of days
                skipped.append((row["image_id"], f"{type(error).__name__}: {error}"))
            else:
                return Example(image, target, (row["image_id"], draw, repeat), tuple(skipped))
        raise UserError(
            f"training: {len(skipped)} images one after another cannot be used, the first is "
            f"{skipped[0][0]!r} ({skipped[0][1]}); check that all workers can read the images and labels"
        )

    def _draw(self, row: dict[str, Any], draw: int, repeat: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        if row["keys"] is None:
            raise RowError("no_label", "no image-level label is known for the image")
        image = decode_image(fetch_image(row), self.max_pixels)
        label = self._label(row, image.shape[:2]) if self.with_labels else None
        training = self.training
        augmented, label = augment(
            image,
            label,
            example_rng(self.seed, draw, repeat, row["image_id"]),
            min_side=training.min_side,
            max_side=training.max_side,
            crop=training.crop,
            flip=training.flip,
            mean=self.mean,
            std=self.std,
        )
        return augmented, self.make_target(np.array(row["keys"], np.int32), label)

    def _label(self, row: dict[str, Any], shape: tuple[int, int]) -> NDArray[np.uint8]:
        if row["label_url"] is None:
            raise RowError("bad_mask", "the training table names no label map for the image")
        return decode_mask(read_label(row), shape)


def example_rng(seed: int, draw: int, repeat: int, image_id: str) -> np.random.Generator:
    """The random generator of one example."""
    digest = hashlib.sha256(image_id.encode()).digest()
    words = np.frombuffer(digest[:16], "<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([seed, draw, repeat, *words]))
