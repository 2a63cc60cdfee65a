"""COCO JSON: one mask per image and class, run-length encoded or as polygons."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.ops.regions.polygons import polygons
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target


class CocoWriter(FormatWriter):
    """`annotations/instances_SPLIT.json` and `images/SPLIT`.

    An annotation is all that an image has of a class, as in COCO-Stuff: the method knows classes, no single
    objects. Unsure pixels belong to no annotation. Of polygons each is a region, with a cut to each hole. The parts
    of the file grow on disk.
    """

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.folder = f"images/{target.split}"  # type: ignore[misc]
        self.parts = {name: target.scratch / f"{name}.json" for name in ("images", "annotations")}
        self.files = {name: path.open("w", encoding="utf-8") for name, path in self.parts.items()}
        self.counts = dict.fromkeys(self.parts, 0)

    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        masks = list(class_masks(image.label))
        entry = {"id": self.counts["images"] + 1, "file_name": file_name, "height": image.height, "width": image.width}
        self._append("images", entry)
        for key, mask in masks:
            encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotation = {
                "id": self.counts["annotations"] + 1,
                "image_id": entry["id"],
                "category_id": key,
                "segmentation": [polygon.corners.ravel().astype(float).tolist() for polygon in polygons(mask)]
                if self.target.polygons
                else {"size": [image.height, image.width], "counts": encoded["counts"].decode("ascii")},
                "area": int(mask.sum()),
                "bbox": [float(value) for value in coco_mask.toBbox(encoded)],
                "iscrowd": 0,
            }
            self._append("annotations", annotation)
        return {}

    def finish(self) -> None:
        """Put the file together."""
        names = self.target.classes.names
        categories = [{"id": key, "name": name, "supercategory": ""} for key, name in enumerate(names, start=1)]
        whole = self.target.scratch / "instances.json"
        with whole.open("w", encoding="utf-8") as out:
            head = {"info": {"description": "labels made by pfit_ray; see README.md"}, "licenses": []}
            out.write(json.dumps({**head, "categories": categories})[:-1])
            for name, file in self.files.items():
                file.close()
                out.write(f',\n"{name}": [\n')
                with self.parts[name].open(encoding="utf-8") as part:
                    out.writelines(part)
                out.write("]")
                self.parts[name].unlink()
            out.write("}\n")
        self.target.publish(f"annotations/instances_{self.target.split}.json", whole)

    def _append(self, part: str, entry: dict[str, Any]) -> None:
        self.files[part].write(("," if self.counts[part] else "") + json.dumps(entry) + "\n")
        self.counts[part] += 1


def class_masks(label: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Class id and mask, bool (H, W), of each foreground class of a label map, ascending."""
    for key in np.unique(label).tolist():
        if key not in (BACKGROUND, IGNORE):
            yield key, label == key
