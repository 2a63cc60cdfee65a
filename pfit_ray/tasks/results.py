"""The columns of the result tables."""

from collections.abc import Sequence

import pyarrow as pa

from pfit_ray.constants import PUBLISHED_SOURCES

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
