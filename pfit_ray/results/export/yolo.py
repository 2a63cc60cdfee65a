"""YOLO segmentation: a text file of polygons for each image, and data.yaml."""

import yaml

from pfit_ray.ops.regions.polygons import polygons
from pfit_ray.results.export.coco import class_masks
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target

_MIN_POINTS = 3


class YoloWriter(FormatWriter):
    """`images/SPLIT`, `labels/SPLIT/ID.txt` and data.yaml; YOLO counts classes from 0, which is our class id 1.

    A line is one connected region: its class, then x and y of the centres of its border pixels, divided by the image's
    width and height. A cut joins each hole to the border around it. Drawn as `ultralytics` draws polygons, the lines
    give the masks; unsure pixels are background.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.folder = f"images/{target.split}"  # type: ignore[misc]

    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        lines = []
        for key, mask in class_masks(image.label):
            for polygon in polygons(mask):
                points = ((polygon.centres + 0.5) / (image.width, image.height)).tolist()
                points += points[-1:] * (_MIN_POINTS - len(points))  # single pixels and straight lines
                numbers = (f"{value:.7g}" for point in points for value in point)
                lines.append(f"{key - 1} {' '.join(numbers)}\n")
        return {f"labels/{self.target.split}/{image.image_id}.txt": "".join(lines).encode()}

    def finish(self) -> None:
        """Write data.yaml, whose `train` and `val` are this one split."""
        names = dict(enumerate(self.target.classes.names))
        document = {"train": f"images/{self.target.split}", "val": f"images/{self.target.split}", "names": names}
        text = "# One split was exported: name another one for val before you trust its scores.\n"
        text += yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        self.target.write("data.yaml", text.encode())
