"""CVAT's own XML ("CVAT for images 1.1") with masks that can be edited there."""

from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from pfit_ray.constants import voc_palette
from pfit_ray.results.export.coco import class_masks
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target


class CvatWriter(FormatWriter):
    """`annotations.xml` and `images/`: make a task of the images, then upload the XML as its annotations."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.path = target.scratch / "annotations.xml"
        self.body = (target.scratch / "images.xml").open("w+", encoding="utf-8")
        self.count = 0

    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        masks = [_mask(self.target.classes.name(key), mask) for key, mask in class_masks(image.label)]
        size = {"width": image.width, "height": image.height}
        self.body.write(f"  <image{_attributes(id=self.count, name=file_name, **size)}>\n")
        self.body.writelines(masks)
        self.body.write("  </image>\n")
        self.count += 1
        return {}

    def finish(self) -> None:
        """Write labels and images into one file."""
        with self.path.open("w", encoding="utf-8") as out:
            out.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n')
            out.write(f"    <task>\n      <size>{self.count}</size>\n      <mode>annotation</mode>\n      <labels>\n")
            colours = voc_palette().tolist()
            for key, name in enumerate(self.target.classes.names, start=1):
                red, green, blue = colours[key]
                out.write(f"        <label><name>{escape(name)}</name><color>#{red:02x}{green:02x}{blue:02x}</color>")
                out.write("<type>mask</type><attributes></attributes></label>\n")
            out.write("      </labels>\n    </task>\n  </meta>\n")
            self.body.seek(0)
            out.writelines(self.body)
            out.write("</annotations>\n")
        self.body.close()
        self.target.publish("annotations.xml", self.path)


def mask_runs(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask, bool (H, W), row by row; the first run is of pixels outside."""
    flat = mask.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def _mask(name: str, mask: np.ndarray) -> str:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    box = {"left": left, "top": top, "width": inside.shape[1], "height": inside.shape[0]}
    rle = ", ".join(map(str, mask_runs(inside)))
    return f"    <mask{_attributes(label=name, source='auto', occluded=0, rle=rle, **box, z_order=0)}>\n    </mask>\n"


def _attributes(**values: Any) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in values.items())
