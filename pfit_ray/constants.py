"""What flows through the pipeline: the names, constants and class lists that every room shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BACKGROUND = 0
IGNORE = 255
MAX_CLASSES = 254
"""Label maps are uint8: 0 is background and 255 is ignored, which leaves 254 class ids."""
CAM_STRIDE = 4

SKIPPED = "skipped"
"""Reason of a row that has no result because the config wants none for it."""

OK = "ok"
FAILED = "failed"
DONE = "done"
"""Status of a row whose results an earlier run has stored, on its way into its shard once more."""

LOCAL_PROTOCOLS = ("file://", "local://")
"""What a URL of this machine may begin with."""

CrfEngine = Literal["native", "pydensecrf"]
"""What computes a dense CRF."""

NetworkEngine = Literal["torch", "channels_last", "onnxruntime"]
"""What computes networks on CPUs; see `pfit_ray.nets.engine`."""

PUBLISHED_SOURCES = ("slic", "quickshift")
"""The region sources of the published method, each under the CNN that merges superpixels."""

Row = dict[str, Any]
"""One image: `image_id`, `uri`, what the stages added, then `status` and `reason`."""

REASONS = {
    "unreadable": "the bytes are not an image, or the image is damaged or truncated",
    "empty_file": "the file has no bytes",
    "too_large": "the image has more pixels than images.max_pixels allows",
    "missing": "the file or object does not exist",
    "denied": "the storage refused access",
    "timeout": "the storage did not answer in time, each time it was asked",
    "io_error": "the storage failed, each time it was asked",
    "unknown_class": "a label names a class that data.classes does not list",
    "no_label": "no image-level label is known for the image",
    "skipped": "no class was predicted for the image, and predicted_labels.empty says skip",
    "bad_id": "the image id is unsafe as a file name or occurs twice",
    "bad_file": "a tar or Parquet file that holds images is damaged, or has changed since it was listed",
    "bad_mask": "the ground truth mask is unreadable or has another size than the image",
    "bad_regions": "a region source gave a label map that is unreadable or has another size than the image",
    "bad_cam": "a CAM source gave maps that are unreadable or lack a class of the image",
    "non_finite": "a network or a CAM source put out NaN or infinity",
    "upstream": "the image failed in an earlier pass",
    "crashed": "the image killed its worker each time it was tried, alone",
    "stuck": "a stage did not end within faults.stage_seconds, each time the image was tried, alone",
    "out_of_memory": "the image takes more memory than its worker has",
    "error": "an unexpected error; the message has its text",
}
"""Reason codes of failed rows and what each means."""

LABEL_REASONS = ("unknown_class", "no_label")
"""Reasons that are about an image's label alone."""

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The 20 foreground classes of PASCAL VOC 2012, in the order of their ids 1..20."""


@dataclass(frozen=True)
class ClassList:
    """The foreground classes of a run: id k (1-based) is the k-th name.

    Raises:
        ValueError: when there is no class, more than 254, or a name occurs twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise ValueError(f"a run needs 1 to {MAX_CLASSES} classes, not {len(self.names)}")
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise ValueError(f"class {doubled[0]!r} occurs twice in the class list")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Class id by name."""
        return {name: index for index, name in enumerate(self.names, start=1)}

    def name(self, class_id: int) -> str:
        """Name of a class id; 0 is `background`."""
        return "background" if class_id == BACKGROUND else self.names[class_id - 1]

    def keys(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Ascending ids of the named classes, each once; a KeyError names an unknown one."""
        return np.array(sorted({self.ids[name] for name in names}), dtype=np.int32)


def strided_size(height: int, width: int) -> tuple[int, int]:
    """Size of the stride-4 grid over an image: ceil(H / 4), ceil(W / 4)."""
    return (height - 1) // CAM_STRIDE + 1, (width - 1) // CAM_STRIDE + 1


def voc_palette() -> NDArray[np.uint8]:
    """The PASCAL VOC palette: (256, 3) RGB; bits of the label spread over the colours' high bits."""
    label = np.arange(256, dtype=np.uint32)
    palette = np.zeros((256, 3), dtype=np.uint32)
    for shift in range(8):
        for channel in range(3):
            palette[:, channel] |= ((label >> channel) & 1) << (7 - shift)
        label >>= 3
    return palette.astype(np.uint8)
