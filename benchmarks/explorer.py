"""What the explorer costs on a large run: reading its index, a page, a picture, a mark.

    python benchmarks/explorer.py [--images 100000] [--shard-size 16]

A synthetic run of so many images, all of them one photograph with random scores and classes, is written to the
temporary folder, then served in this process. Seconds are wall time, the median of several requests; memory is what the
process has grown by.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data
from starlette.testclient import TestClient

from pfit_ray.config.load import validate
from pfit_ray.data.sources.item import Item
from pfit_ray.results.explorer.app import make_app
from pfit_ray.results.explorer.state import Explorer
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.rundir.review import Marked, run_marks, write_marks
from pfit_ray.storage.threads import prefetch
from pfit_ray.tasks.encode import EncodeStage
from pfit_ray.tasks.write import ShardWriter

SIZE = (375, 500)
CLASSES = 20
REPEATS = 9
PAGES = {
    "first page": {},
    "last page": {"page": "999999999"},
    "sorted by a score": {"sort": "labels.walk_margin", "descending": "1"},
    "sorted by id": {"sort": "id", "descending": "1", "page": "800"},
    "class, status, score, text": {
        "class": "3", "status": "ok", "score": "seeds.mask_agreement", "low": "0.4", "text": "7",
        "sort": "predict.margin",
    },
}  # fmt: skip
PICTURES = {"/image": {}, "/small": {"stage": "prediction"}, "/photo": {}, "/layer": {"stage": "cam"}}
PASSES = ("seeds", "labels", "predict")


def main() -> None:
    """Write a run, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--shard-size", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = write_run(Path(place), arguments.images, arguments.shard_size)
        measure(run, arguments.images)


def write_run(place: Path, images: int, shard_size: int) -> RunDirectory:
    """A finished run; a few images of each shard have failed."""
    photo = place / "photo.jpg"
    Image.fromarray(data.chelsea()).resize(SIZE[::-1]).save(photo, quality=90)
    run = RunDirectory(str(place / "run"))
    dice = np.random.default_rng(0)
    keys = [[int(dice.integers(1, CLASSES + 1))] for _ in range(images)]
    items = (Item(f"photo_{number:07d}", str(photo), tuple(key)) for number, key in enumerate(keys))
    write_manifest(run, "train", items, shard_size)
    items = (Item(f"photo_{number:07d}", str(photo)) for number in range(images))
    write_manifest(run, "predict", items, shard_size)
    for name in PASSES:
        rows = rows_of(name, keys, dice)
        writer = ShardWriter(run, name)
        shards = ([next(rows) for _ in range(min(shard_size, images - at))] for at in range(0, images, shard_size))
        for _ in prefetch(lambda job, to=writer: to.write(*job, {}), enumerate(shards), 4, 16):
            pass
    return run


def rows_of(name: str, keys: list[list[int]], dice: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of a pass, encoded; every hundredth has failed."""
    maps = dice.random((1, 94, 125), dtype=np.float32)
    label = np.zeros(SIZE, np.uint8)
    label[100:300, 100:400] = 1
    small = {"regions_slic", "regions_quickshift", "fit_mask_slic", "fit_mask_quickshift"}
    row: dict[str, Any] = {
        "image_id": "", "uri": "", "height": SIZE[0], "width": SIZE[1], "status": "ok", "keys": [1],
        "key_scores": [0.5], "labels_predicted": False, "label_scores": None, "cam": maps, "combined_cam": maps,
        "edge": maps[0], "walk": maps, "affinity_label": label, "pseudo_label": label, "prediction": label,
        **dict.fromkeys(small, label), "fit_mask_slic": label[None] > 0, "fit_mask_quickshift": label[None] > 0,
        **dict.fromkeys(SCORE_COLUMNS, 0.5),
    }  # fmt: skip
    EncodeStage(name, "float16").process(row)
    for number, key in enumerate(keys):
        image = {"image_id": f"photo_{number:07d}", "uri": "photo"}
        if number % 100 == 7:
            yield {**image, "status": "failed", "stage": "decode", "reason": "unreadable", "message": "damaged"}
        else:
            scores = {score: float(dice.random()) for score in SCORE_COLUMNS if score in row}
            yield {**row, **image, **scores, "keys": key}


SCORE_COLUMNS = ("mask_agreement", "cam_margin", "foreground_share", "walk_margin", "crf_change", "margin")


def measure(run: RunDirectory, images: int) -> None:
    """Print what an explorer of a run costs."""
    config = validate(
        {
            "output": run.root,
            "data": {"source": "folder", "root": "photos", "classes": [f"c{n}" for n in range(CLASSES)]},
        }
    )
    before = resident()
    begun = time.perf_counter()
    explorer = Explorer(config, run)
    listed = time.perf_counter()
    explorer.refresh()
    read = time.perf_counter()
    assert explorer.problem is None
    print(f"{images} images: first page after {listed - begun:.1f} s, all results read after {read - begun:.1f} s")
    print(f"memory {(resident() - before) / 1e6:.0f} MB")
    client = TestClient(make_app(explorer, "token"), base_url="http://localhost")
    client.get("/?token=token")
    for what, words in PAGES.items():
        print(f"{what:<28} {timed(lambda words=words: page(client, explorer, words)) * 1000:>7.0f} ms")
    image_id = f"photo_{images // 2:07d}"
    for path, words in PICTURES.items():
        seconds = timed(lambda path=path, words=words: get(client, path, id=image_id, **words))
        print(f"{path:<28} {seconds * 1000:>7.0f} ms")
    row = explorer.index.row(image_id)
    assert row is not None
    for count in (0, images):
        write_marks(run.url("review", "marks.parquet"), some_marks(explorer, count))
        seconds = timed(lambda: explorer.mark(row, "accept"))
        print(f"a mark beside {count:>7} others  {seconds * 1000:>7.0f} ms")
    assert len(run_marks(run)) == images


def some_marks(explorer: Explorer, count: int) -> dict[str, Marked]:
    """Marks of the first images."""
    return dict.fromkeys(explorer.index.ids[:count].to_pylist(), Marked("reject", datetime.now(UTC)))


def page(client: TestClient, explorer: Explorer, words: dict[str, str]) -> None:
    """Ask for a page of the list that has not been asked for."""
    explorer.index.version += 1
    get(client, "/", **words)


def get(client: TestClient, path: str, **words: str) -> None:
    """A request that must succeed."""
    answer = client.get(path, params=words)
    assert answer.status_code == 200, answer.text


def timed(work: Callable[[], object]) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def resident() -> int:
    """Resident bytes of this process."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


if __name__ == "__main__":
    main()
