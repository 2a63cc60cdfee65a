"""Plain label PNGs, and a table of the classes."""

import csv
import io

from pfit_ray.constants import BACKGROUND, IGNORE, voc_palette
from pfit_ray.results.export.items import LabelledImage
from pfit_ray.results.export.writer import FormatWriter, Target


class PngWriter(FormatWriter):
    """`labels/ID.png` (palette PNGs of class ids), `images/`, classes.csv and images.csv with the scores."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        palette = voc_palette().tolist()
        rows = [(BACKGROUND, "background"), *enumerate(target.classes.names, start=1), (IGNORE, "unsure")]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("id", "class", "red", "green", "blue"))
        table.writerows((number, name, *palette[number]) for number, name in rows)
        target.write("classes.csv", text.getvalue().encode())
        self.path = target.scratch / "images.csv"
        self.file = self.path.open("w", encoding="utf-8", newline="")
        self.table = csv.writer(self.file, lineterminator="\n")
        self.table.writerow(("image_id", "photograph", "height", "width", "classes", *target.scores))

    def add(self, image: LabelledImage, file_name: str) -> dict[str, bytes]:
        """See `FormatWriter`."""
        _ = image.label  # a damaged map is found here
        names = ";".join(self.target.classes.name(key) for key in image.keys)
        scores = (image.scores[name] for name in self.target.scores)
        self.table.writerow((image.image_id, file_name, image.height, image.width, names, *scores))
        return {f"labels/{image.image_id}.png": image.png}

    def finish(self) -> None:
        """Write the table of the images."""
        self.file.close()
        self.target.publish("images.csv", self.path)
