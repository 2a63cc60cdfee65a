"""FiftyOne's layout of segmentations on disk, its `ImageSegmentationDirectory`."""

import json

from pfit_ray.constants import BACKGROUND, IGNORE
from pfit_ray.data.images import encode_grey
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target


class FiftyOneWriter(FormatWriter):
    """`data/ID.jpg`, `labels/ID.png` with class ids, and scores.json with what that layout has no place for.

    The PNGs are grey: FiftyOne would read the palette's colours.

    scores.json has `mask_targets` (class id to name) and `samples`: by image id its `tags` (the split and the classes)
    and its scores.
    """

    folder = "data"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.path = target.scratch / "scores.json"
        self.file = self.path.open("w", encoding="utf-8")
        targets = {BACKGROUND: "background", **dict(enumerate(target.classes.names, start=1)), IGNORE: "unsure"}
        self.file.write(json.dumps({"mask_targets": targets})[:-1] + ', "samples": {')
        self.first = True

    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        png = encode_grey(image.label)
        tags = [self.target.split, *(self.target.classes.name(key) for key in image.keys)]
        scores = {name: image.scores[name] for name in self.target.scores}
        self.file.write(("" if self.first else ",") + f"\n{json.dumps(image.image_id)}: ")
        self.file.write(json.dumps({"tags": tags, **scores}))
        self.first = False
        return {f"labels/{image.image_id}.png": png}

    def finish(self) -> None:
        """Close scores.json."""
        self.file.write("\n}}\n")
        self.file.close()
        self.target.publish("scores.json", self.path)
