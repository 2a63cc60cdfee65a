"""The tables of training examples, made from the manifest and from what the passes wrote."""

import io
from collections.abc import Iterator
from functools import partial
from itertools import compress, islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.training import TrainingConfig
from pfit_ray.constants import OK, Row
from pfit_ray.data.image_bytes import PLACE_FIELDS
from pfit_ray.errors import UserError
from pfit_ray.rundir.directory import IMAGE_SET, Network, RunDirectory
from pfit_ray.rundir.manifest import iterate_manifest, iterate_shards
from pfit_ray.rundir.published import read_rows
from pfit_ray.rundir.review import keeps, marks_for_training, used_marks_url, write_marks
from pfit_ray.storage.threads import prefetch
from pfit_ray.train.sample import sample

EXAMPLE_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        *PLACE_FIELDS,
        ("keys", pa.list_(pa.int32())),
        ("label_url", pa.string()),
        ("label_offset", pa.int64()),
        ("label_size", pa.int64()),
    ]
)

LABELS_FROM = {"affinitynet": "seeds", "deeplab": "labels"}
"""The pass whose label maps a network learns from."""

_SCORE_FROM = {"mask_agreement": "seeds", "cam_margin": "seeds", "walk_margin": "labels"}
"""The pass that writes a score; the other scores come from the pass whose label maps are learned."""

_PLACE = [name for name, _ in PLACE_FIELDS]
_ROW_GROUP = 65_536
_READERS = 16
_AHEAD = 32


def write_examples(run: RunDirectory, config: RunConfig, network: Network) -> str:
    """Write the table of what a network learns from. Memory holds the compressed table and one row group.

    If a review decides (`train.review`), its marks are written beside the table, so a training that continues after a
    crash uses the same ones.

    Returns:
        Its URL.

    Raises:
        UserError: when there is nothing to learn from.
    """
    training: TrainingConfig = getattr(config, network).train
    review = training.review
    marks = marks_for_training(run, network, review) if review else {}

    def candidates() -> Iterator[Row]:
        if network == "classifier":
            rows = _labelled_images(run, "train" if config.data.classifier is None else "classifier")
        else:
            rows = _label_maps(run, LABELS_FROM[network], training)
        return (row for row in rows if not review or keeps(review, marks.get(row["image_id"])))

    rows = candidates()
    if training.sample is not None:
        rows = compress(rows, sample(candidates(), training, config.seed))
    buffer, found = io.BytesIO(), False
    with pq.ParquetWriter(buffer, EXAMPLE_SCHEMA, compression="zstd") as writer:
        while chunk := list(islice(rows, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=EXAMPLE_SCHEMA))
            found = True
    if not found:
        what = "an image-level label" if network == "classifier" else f"a label from pass {LABELS_FROM[network]}"
        if review:
            what += f" and is left by {network}.train.review {review}"
        raise UserError(f"{network} cannot be trained: no image has {what}; look at the failures tables")
    if review:
        write_marks(used_marks_url(run, network), marks)
    url = run.url("train", network, "examples.parquet")
    storage.write_bytes(url, buffer.getvalue())
    return url


def _labelled_images(run: RunDirectory, image_set: str) -> Iterator[Row]:
    for row in iterate_manifest(run, image_set):
        if row["status"] == OK and row["keys"]:
            yield {name: row[name] for name in ("image_id", *_PLACE, "keys")}


def _label_maps(run: RunDirectory, pass_name: str, training: TrainingConfig) -> Iterator[Row]:
    finished = run.finished_numbers(pass_name)
    lowest = _lowest_score(run, pass_name, training, finished)
    scored = lowest is not None or (training.sample is not None and training.sample_by == "score")
    read = partial(_shard_labels, run, pass_name, training.score, scored, lowest)
    listed = iterate_shards(run, IMAGE_SET[pass_name], finished)
    for labels, (_, images) in zip(prefetch(read, finished, _READERS, _AHEAD), listed, strict=True):
        places = {image["image_id"]: {name: image[name] for name in _PLACE} for image in images}
        for row in labels:
            yield {**row, **places[row["image_id"]]}


def _lowest_score(run: RunDirectory, pass_name: str, training: TrainingConfig, finished: list[int]) -> float | None:
    """The score below which images are left out; None where all stay."""
    if not training.drop_worst:
        return training.min_score
    read = partial(_shard_scores, run, pass_name, training.score)
    scores = np.array([score for shard in prefetch(read, finished, _READERS, _AHEAD) for score in shard.values()])
    if not len(scores):
        return training.min_score
    worst = int(training.drop_worst * len(scores))
    return max(float(np.partition(scores, worst)[worst]), training.min_score or 0.0)


def _shard_labels(
    run: RunDirectory, pass_name: str, score: str, scored: bool, lowest: float | None, shard: int
) -> list[Row]:
    """Ids, keys and label places of a finished shard's images, and their scores where these decide."""
    columns = ["image_id", "keys", "label_offset", "label_size"]
    rows = read_rows(run, pass_name, shard, columns, small=True)
    if not scored:
        return rows
    scores = _shard_scores(run, pass_name, score, shard)
    rows = [{**row, "score": scores[row["image_id"]]} for row in rows]
    return [row for row in rows if lowest is None or row["score"] >= lowest]


def _shard_scores(run: RunDirectory, pass_name: str, score: str, shard: int) -> dict[str, float]:
    """Scores of the images that have a label map in a finished shard of a pass."""
    labelled = {row["image_id"] for row in read_rows(run, pass_name, shard, ["image_id"], small=True)}
    rows = read_rows(run, _SCORE_FROM.get(score, pass_name), shard, ["image_id", score], small=True)
    return {row["image_id"]: row[score] for row in rows if row["image_id"] in labelled}
