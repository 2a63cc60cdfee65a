"""PASCAL VOC's layout, as CVAT ("Segmentation mask 1.1") and Datumaro read it."""

from xml.etree import ElementTree

import numpy as np

from pfit_ray.constants import IGNORE, voc_palette
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target, checked_names

IGNORED = "ignored"


def _add(parent: ElementTree.Element, **texts: object) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = str(text)


def _box(mask: np.ndarray) -> dict[str, int] | None:
    """The box of a mask's pixels, counted from 1; None if VOC's readers would find a box without an area."""
    box: dict[str, int] = {}
    for axis, side in (("x", 0), ("y", 1)):
        found = np.flatnonzero(mask.any(axis=side))
        if not found.size or mask.shape[1 - side] < 3:
            return None
        top = min(int(found[-1]) + 1, mask.shape[1 - side] - 1)
        box[f"{axis}min"], box[f"{axis}max"] = max(1, min(int(found[0]) + 1, top - 1)), top
    return {name: box[name] for name in ("xmin", "ymin", "xmax", "ymax")}


class VocWriter(FormatWriter):
    """JPEGImages, SegmentationClass, Annotations, ImageSets/Segmentation/SPLIT.txt and labelmap.txt.

    The label maps are the run's own PNGs: palette indices are class ids, colours those of labelmap.txt. An annotation
    has one object for each class of the image's label, with the box of all its pixels.
    """

    folder = "JPEGImages"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        names = checked_names(target, ":#", "labelmap.txt")
        colours = [",".join(map(str, colour)) for colour in voc_palette().tolist()]
        lines = [f"{name}:{colours[number]}::" for number, name in enumerate(("background", *names))]
        lines.append(f"{IGNORED}:{colours[IGNORE]}::")
        text = "# label:color_rgb:parts:actions\n" + "\n".join(lines) + "\n"
        target.write("labelmap.txt", text.encode())
        self.path = target.scratch / "list.txt"
        self.list = self.path.open("w", encoding="utf-8")

    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        _ = image.label  # a damaged map is found here
        self.list.write(f"{image.image_id}\n")
        return {
            f"SegmentationClass/{image.image_id}.png": image.png,
            f"Annotations/{image.image_id}.xml": self._annotation(image, file_name),
        }

    def _annotation(self, image: LabelledImage, file_name: str) -> bytes:
        root = ElementTree.Element("annotation")
        _add(root, folder=self.folder, filename=file_name)
        _add(ElementTree.SubElement(root, "size"), width=image.width, height=image.height, depth=3)
        _add(root, segmented=1)
        for key in image.keys:
            entry = ElementTree.SubElement(root, "object")
            _add(entry, name=self.target.classes.name(key), pose="Unspecified", truncated=0, difficult=0)
            box = _box(image.label == key)
            if box is not None:
                _add(ElementTree.SubElement(entry, "bndbox"), **box)
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="utf-8")

    def finish(self) -> None:
        """Write the list of the images."""
        self.list.close()
        self.target.publish(f"ImageSets/Segmentation/{self.target.split}.txt", self.path)
