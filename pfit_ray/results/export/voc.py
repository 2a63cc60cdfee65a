"""PASCAL VOC's layout, as CVAT ("Segmentation mask 1.1") and Datumaro read it."""

from pfit_ray.constants import IGNORE, voc_palette
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target, checked_names

IGNORED = "ignored"


class VocWriter(FormatWriter):
    """JPEGImages, SegmentationClass, ImageSets/Segmentation/SPLIT.txt and labelmap.txt.

    The label maps are the run's own PNGs: palette indices are class ids, colours those of labelmap.txt.
    """

    photographs = "JPEGImages"

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

    def add(self, image: LabelledImage, photograph: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        _ = image.label  # a damaged map is found here
        self.list.write(f"{image.image_id}\n")
        return {f"SegmentationClass/{image.image_id}.png": image.png}

    def finish(self) -> None:
        """Write the list of the images."""
        self.list.close()
        self.target.publish(f"ImageSets/Segmentation/{self.target.split}.txt", self.path)
