"""One, two or four workers, fused or not, shards of 8 or 32 images, another order: the same values and bytes."""

from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.small_runs import QUICKSTART, SMALL, command, label_files, table

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

COUNT = 36
CLASSES = {"chelsea.png": "cat", "coffee.png": "cup"}


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Small crops of photographs, of several shapes, and their labels, as config overrides."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    lines = ["image,classes"]
    for number in range(COUNT):
        name, label = list(CLASSES.items())[number % 2]
        with Image.open(str(resources.files("skimage") / "data" / name)) as photograph:
            width, height = (int(side) for side in rng.integers(36, 60, 2))
            left, top = (int(rng.integers(0, side // 2)) for side in photograph.size)
            crop = photograph.convert("RGB").crop((left, top, left + 4 * width, top + 4 * height))
        crop.resize((width, height)).save(folder / f"crop_{number:02d}.png")
        lines.append(f"crop_{number:02d},{label}")
    labels = folder.parent / "crops.csv"
    labels.write_text("\n".join(lines) + "\n")
    return [f"data.root={folder}", f"data.labels={labels}", "data.source=folder"]


def run(
    crops: list[str], folder: Path, workers: int, shard_size: int, fuse: bool
) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """Rows and affinity labels of pass 1."""
    places = (f"workers={workers}", f"cpus={1 / workers}")
    said = command(
        "run", QUICKSTART, *SMALL, *crops, "passes=[seeds]", "sheets=0", "cam.scales=[1]",
        "regions.slic.n_segments=30", "regions.uss.max_iterations=3", f"shard_size={shard_size}", f"output={folder}",
        f"resources.fuse={fuse}",
        *(f"resources.{kind}.{place}" for kind in ("network", "cpu") for place in places),
    )  # fmt: skip
    assert said.code == 0, said
    assert f"pass seeds: {COUNT} ok + 0 failed = {COUNT} images" in said.out
    return table(folder, "seeds").drop(columns="label_offset"), label_files(folder, "affinity_label")


def test_the_partitioning_changes_nothing(local_ray: None, crops: list[str], tmp_path: Path) -> None:
    rows, labels = run(crops, tmp_path / "one", workers=1, shard_size=32, fuse=True)
    assert len(rows) == COUNT
    for workers, fuse in ((2, True), (4, False)):
        others, other_labels = run(crops, tmp_path / str(workers), workers, 8, fuse)
        pd.testing.assert_frame_equal(others, rows, check_exact=True)
        assert other_labels == labels
