"""The columns of the result tables."""

import pyarrow as pa

_IMAGE_FIELDS = [
    ("image_id", pa.string()),
    ("uri", pa.string()),
    ("height", pa.int32()),
    ("width", pa.int32()),
]
_LABEL_FIELDS = [("label_offset", pa.int64()), ("label_size", pa.int64())]
_KEYS = ("keys", pa.list_(pa.int32()))

RESULT_FIELDS: dict[str, list[tuple[str, pa.DataType]]] = {
    "seeds": [
        _KEYS,
        ("key_scores", pa.list_(pa.float32())),
        ("labels_predicted", pa.bool_()),
        ("label_scores", pa.list_(pa.float32())),
        ("cam", pa.binary()),
        ("combined_cam", pa.binary()),
        ("regions_slic", pa.binary()),
        ("regions_quickshift", pa.binary()),
        ("fit_mask_slic", pa.binary()),
        ("fit_mask_quickshift", pa.binary()),
        ("mask_agreement", pa.float32()),
        ("cam_margin", pa.float32()),
        ("foreground_share", pa.float32()),
    ],
    "labels": [
        _KEYS,
        ("edge", pa.binary()),
        ("walk", pa.binary()),
        ("walk_margin", pa.float32()),
        ("crf_change", pa.float32()),
        ("foreground_share", pa.float32()),
    ],
    "predict": [
        _KEYS,
        ("margin", pa.float32()),
        ("crf_change", pa.float32()),
        ("foreground_share", pa.float32()),
    ],
}
"""What each pass adds to an image: `cam`, `combined_cam`, `edge` and `walk` are .npy bytes; `regions_*` and
`fit_mask_*` are PNG bytes (the masks of all classes below each other); the rest are plain values."""

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


def result_schema(pass_name: str) -> pa.Schema:
    """Arrow schema of a pass's rows; the label map lies at `label_offset` of the shard's tar file."""
    return pa.schema(_IMAGE_FIELDS + RESULT_FIELDS[pass_name] + _LABEL_FIELDS)
