"""LabelMe: a JSON file of polygons beside each image."""

import json

from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.ops.regions.region_maps import Outline, outlines
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target

FILE_VERSION = "5.5.0"
"""Release of LabelMe whose files these are; later ones read them."""
BACKGROUND_NAME, IGNORE_NAME = "_background_", "__ignore__"
"""How LabelMe's own converters call holes and unsure pixels."""
_MIN_POINTS = 3


class LabelmeWriter(FormatWriter):
    """`ID.json` beside `ID.jpg`, and labels.txt.

    Holes are polygons of their own, with the label `_background_`; LabelMe paints later shapes over earlier ones.
    """

    folder = ""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        names = (IGNORE_NAME, BACKGROUND_NAME, *target.classes.names)
        target.write("labels.txt", "".join(f"{name}\n" for name in names).encode())

    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        document: dict[str, object] = {
            "version": FILE_VERSION,
            "flags": {},
            "shapes": [self._shape(outline) for outline in outlines(image.label)],
            "imagePath": file_name,
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        return {f"{image.image_id}.json": json.dumps(document).encode()}

    def finish(self) -> None:
        """Nothing is shared but labels.txt, which is there from the beginning."""

    def _shape(self, outline: Outline) -> dict[str, object]:
        special = {BACKGROUND: BACKGROUND_NAME, IGNORE: IGNORE_NAME}
        points = [[float(x), float(y)] for x, y in outline.points.tolist()]
        points += points[-1:] * (_MIN_POINTS - len(points))  # single pixels and straight lines
        return {
            "label": special.get(outline.label) or self.target.classes.name(outline.label),
            "points": points,
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
