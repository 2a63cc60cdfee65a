"""The columns of the result tables."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pfit_ray.constants import PUBLISHED_SOURCES, Row

_IMAGE_FIELDS = [
    ("image_id", pa.string()),
    ("uri", pa.string()),
    ("height", pa.int32()),
    ("width", pa.int32()),
]
_AREA_FIELDS = [("label_ids", pa.list_(pa.int32())), ("label_pixels", pa.list_(pa.int64()))]
_LABEL_FIELDS = [("label_file", pa.string()), ("label_offset", pa.int64()), ("label_size", pa.int64())]
_KEYS = ("keys", pa.list_(pa.int32()))

RESULT_FIELDS: dict[str, list[tuple[str, pa.DataType]]] = {
    "seeds": [
        _KEYS,
        ("key_scores", pa.list_(pa.float32())),
        ("labels_predicted", pa.bool_()),
        ("label_scores", pa.list_(pa.float32())),
        ("cam", pa.binary()),
        ("combined_cam", pa.binary()),
        ("mask_agreement", pa.float32()),
        ("cam_margin", pa.float32()),
        ("foreground_share", pa.float32()),
        *_AREA_FIELDS,
    ],
    "labels": [
        _KEYS,
        ("edge", pa.binary()),
        ("walk", pa.binary()),
        ("walk_margin", pa.float32()),
        ("crf_change", pa.float32()),
        ("foreground_share", pa.float32()),
        *_AREA_FIELDS,
    ],
    "predict": [
        _KEYS,
        ("margin", pa.float32()),
        ("crf_change", pa.float32()),
        ("foreground_share", pa.float32()),
        *_AREA_FIELDS,
    ],
}
"""What each pass adds to an image, whatever its region sources: `cam`, `combined_cam`, `edge` and `walk` are .npy
bytes; the rest are plain values. `label_ids` are the ids in the label map, ascending, 255 among them, and
`label_pixels` says how many pixels each has."""

SCORES = {
    "seeds": ("mask_agreement", "cam_margin", "foreground_share"),
    "labels": ("walk_margin", "crf_change", "foreground_share"),
    "predict": ("margin", "crf_change", "foreground_share"),
}
"""Scores of each pass that reports show; the first one that an image has ranks it."""
BINS = 20
"""Equal parts of [0, 1] in a histogram of scores."""

FAILURE_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("pass", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("attempt", pa.int32()),
    ]
)
"""The failures table: a row for each image that a pass could not finish; `attempt` counts the runs that tried."""


def result_fields(pass_name: str, sources: Sequence[str] = PUBLISHED_SOURCES) -> list[tuple[str, pa.DataType]]:
    """What a pass adds to an image, region sources included.

    Args:
        pass_name: `seeds`, `labels` or `predict`.
        sources: names of the region sources: pass seeds adds `regions_NAME` and `fit_mask_NAME` of each, PNG bytes (the
            masks of all classes below each other).
    """
    fields = RESULT_FIELDS[pass_name]
    if pass_name != "seeds":
        return fields
    place = [name for name, _ in fields].index("combined_cam") + 1
    of_sources = [(f"{kind}_{name}", pa.binary()) for kind in ("regions", "fit_mask") for name in sources]
    return [*fields[:place], *of_sources, *fields[place:]]


def result_schema(pass_name: str, sources: Sequence[str] = PUBLISHED_SOURCES) -> pa.Schema:
    """Arrow schema of a pass's rows; the label map lies at `label_offset` of the tar file `label_file`.

    Args:
        pass_name: `seeds`, `labels` or `predict`.
        sources: names of the region sources.
    """
    return pa.schema(_IMAGE_FIELDS + result_fields(pass_name, sources) + _LABEL_FIELDS)


def image_scores(pass_name: str, row: Row) -> dict[str, float]:
    """The scores that an image has, as its row stores them."""
    found = {name: row.get(name) for name in SCORES[pass_name]}
    rounded = {name: float(np.float32(value)) for name, value in found.items() if value is not None}
    return {name: value for name, value in rounded.items() if not math.isnan(value)}


def shard_sums(pass_name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """What a report needs of a shard, for its marker, so that it opens no shard but those that it shows images of.

    Args:
        pass_name: `seeds`, `labels` or `predict`.
        rows: the good rows.

    Returns:
        `keys` of each image; `pixels` by id in the label maps; `histograms`, images by score and `BINS`; `lowest` and
        `highest` of the scores that rank the images, None without images. JSON holds it.
    """
    histograms = {name: [0] * BINS for name in SCORES[pass_name]}
    pixels: Counter[int] = Counter()
    ranks = []
    for row in rows:
        pixels.update(dict(zip(row.get("label_ids") or (), row.get("label_pixels") or (), strict=True)))
        scores = image_scores(pass_name, row)
        for name, value in scores.items():
            histograms[name][max(0, min(int(value * BINS), BINS - 1))] += 1
        ranks.append(next(iter(scores.values()), 0.0))
    return {
        "keys": [[int(key) for key in _listed(row.get("keys"))] for row in rows],
        "pixels": {str(label): int(count) for label, count in sorted(pixels.items())},
        "histograms": histograms,
        "lowest": min(ranks, default=None),
        "highest": max(ranks, default=None),
    }


def _listed(keys: Any) -> Sequence[Any]:
    return () if keys is None else keys
