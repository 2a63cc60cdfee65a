"""The tables of training examples, made from the manifest and from what the passes wrote."""

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.errors import UserError
from pfit_ray.layout import Network, RunDirectory
from pfit_ray.manifest import iterate_manifest
from pfit_ray.schema import OK

EXAMPLE_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("keys", pa.list_(pa.int32())),
        ("label_url", pa.string()),
        ("label_offset", pa.int64()),
        ("label_size", pa.int64()),
    ]
)

LABELS_FROM = {"affinitynet": "seeds", "deeplab": "labels"}
"""The pass whose label maps a network learns from."""


def write_examples(run: RunDirectory, config: RunConfig, network: Network) -> str:
    """Write the table of what a network learns from.

    Returns:
        Its URL.

    Raises:
        UserError: when there is nothing to learn from.
    """
    if network == "classifier":
        image_set = "train" if config.data.classifier is None else "classifier"
        rows = _labelled_images(run, image_set)
    else:
        floor = getattr(config, network).train.min_score
        rows = _label_maps(run, LABELS_FROM[network], floor)
    table = pa.Table.from_pylist(list(rows), schema=EXAMPLE_SCHEMA)
    if not table.num_rows:
        what = "an image-level label" if network == "classifier" else f"a label from pass {LABELS_FROM[network]}"
        raise UserError(f"{network} cannot be trained: no image has {what}; look at the failures tables")
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    url = run.url("train", network, "examples.parquet")
    storage.write_bytes(url, buffer.getvalue())
    return url


def _labelled_images(run: RunDirectory, image_set: str) -> Iterator[dict[str, Any]]:
    for row in iterate_manifest(run, image_set):
        if row["status"] == OK and row["keys"]:
            yield {name: row[name] for name in ("image_id", "uri", "keys")}


def _label_maps(run: RunDirectory, pass_name: str, min_score: float | None) -> Iterator[dict[str, Any]]:
    columns = ["image_id", "uri", "keys", "label_offset", "label_size"]
    for shard in run.finished_shards(pass_name):
        scores = _agreement(run, shard) if min_score is not None else {}
        data = storage.read_bytes(run.rows(pass_name, shard))
        for row in pq.read_table(io.BytesIO(data), columns=columns).to_pylist():
            if min_score is None or scores[row["image_id"]] >= min_score:
                yield {**row, "label_url": run.labels(pass_name, shard)}


def _agreement(run: RunDirectory, shard: int) -> dict[str, float]:
    data = storage.read_bytes(run.rows("seeds", shard))
    table = pq.read_table(io.BytesIO(data), columns=["image_id", "mask_agreement"])
    return {row["image_id"]: row["mask_agreement"] for row in table.to_pylist()}
