"""A finished run of hand-made label maps, and readers of the exports that live in environments of their own."""

import io
import os
import subprocess
import sys
from collections import Counter
from importlib import util
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image
from support.shards import fixed

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.config.stored import stored_yaml
from pfit_ray.data.images import encode_label
from pfit_ray.data.label_shards import pack_shard
from pfit_ray.data.sources.item import Item
from pfit_ray.rundir.directory import IMAGE_SET, LABEL_COLUMN, RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks.results import result_schema

CLASSES = ("cat", "dog", "red <fox>")
SCORES = {"walk_margin": 0.5, "margin": 0.75, "crf_change": 0.25, "foreground_share": 0.125}


class ExportRun(NamedTuple):
    """A run whose images a, b, c and turned are good; gone has lost its photograph, bad has failed."""

    config: RunConfig
    directory: RunDirectory
    labels: dict[str, np.ndarray]
    photographs: Path


def label_maps() -> dict[str, np.ndarray]:
    """Nested regions with holes, one class per image and several, single pixels, an unsure border."""
    a = np.zeros((30, 41), np.uint8)
    a[3:27, 4:38] = 1
    a[8:20, 10:30] = 0
    a[11:16, 14:22] = 2
    a[13, 17] = 3
    b = np.random.default_rng(0).choice([0, 1, 2, 3], size=(17, 12), p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
    b[:2], b[-1, -1] = 255, 3
    return {"a": a, "b": b, "c": np.zeros((5, 7), np.uint8), "turned": a[:20, :9].copy(), "gone": a[:6, :6].copy()}


def write_run(root: Path) -> ExportRun:
    """Two shards of passes labels and predict are finished, one is not; predictions are the mirrored labels."""
    labels = label_maps()
    items = []
    for name, label in labels.items():
        suffix = ".png" if name == "b" else ".jpg"
        pixels = np.random.default_rng(len(name)).integers(0, 256, (*label.shape, 3)).astype(np.uint8)
        photo, exif = Image.fromarray(pixels), Image.Exif()
        if name == "turned":
            photo = photo.transpose(Image.Transpose.ROTATE_90)
            exif[ExifTags.Base.Orientation] = 6
        if name == "c":  # as phones write it: a JPEG with a second picture behind the first
            photo.save(root / (name + suffix), "MPO", save_all=True, append_images=[photo])
        elif name != "gone":
            photo.save(root / (name + suffix), exif=exif)
        items.append(Item(name, str(root / (name + suffix)), (1,)))
    items += [Item("bad", str(root / "bad.jpg"), reason="no_label", message="?"), Item("late", "late.jpg", (1,))]
    run = RunDirectory(str(root / "run"))
    config = validate(
        {"output": run.root, "data": {"source": "folder", "root": str(root / "photographs"), "classes": CLASSES}}
    )
    storage.write_bytes(run.url("config.yaml"), stored_yaml(config))
    for name in ("labels", "predict"):
        write_manifest(run, IMAGE_SET[name], iter(items), shard_size=3)
        maps = labels if name == "labels" else {key: label[:, ::-1].copy() for key, label in labels.items()}
        for shard in (0, 1):
            ids = [item.image_id for item in items[3 * shard : 3 * shard + 3] if item.image_id in maps]
            write_shard(run, name, shard, {image_id: maps[image_id] for image_id in ids}, {"no_label": 3 - len(ids)})
    scores = {"images": 2, "miou": 0.5, "fp": 0.25, "fn": 0.125, "iou": {"background": 0.75, "cat": None}}
    run.write_json({"pseudo_label": scores}, "evaluation.json")
    return ExportRun(config, run, labels, root)


def write_shard(
    run: RunDirectory, name: str, shard: int, labels: dict[str, np.ndarray], failed: dict[str, int]
) -> None:
    tar, places = pack_shard((image_id, encode_label(label)) for image_id, label in labels.items())
    schema = result_schema(name)
    rows = []
    for image_id, label in labels.items():
        row = {"image_id": image_id, "uri": "", "height": label.shape[0], "width": label.shape[1]}
        row |= {"keys": sorted(set(np.unique(label).tolist()) - {0, 255})}
        row |= {field.name: SCORES[field.name] for field in schema if field.type == pa.float32()}
        row |= {field.name: b"" for field in schema if field.type == pa.binary()}
        rows.append({**row, "label_offset": places[image_id][0], "label_size": places[image_id][1]})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
    storage.write_bytes(fixed(run, name, "rows", shard), buffer.getvalue())
    storage.write_bytes(run.url(name, f"{LABEL_COLUMN[name]}s", f"{shard:05d}.tar"), tar)
    failures = {reason: count for reason, count in failed.items() if count}
    if failures:
        buffer = io.BytesIO()
        pq.write_table(pa.table({"reason": list(Counter(failures).elements())}), buffer)
        storage.write_bytes(fixed(run, name, "failures", shard), buffer.getvalue())
    run.write_json(
        {"ok": len(rows), "failed": sum(failures.values()), "reasons": failures}, name, "done", f"{shard:05d}.json"
    )


def foreign_maps(module: str, script: str, folder: Path, tmp_path: Path) -> dict[str, np.ndarray]:
    """Label maps that another tool's own reader finds.

    Args:
        module: what must be importable.
        script: Python code that gets the export as `folder` and fills the dict `found` with arrays by image id.
        folder: the export.
        tmp_path: where the arrays are handed over.

    The tool may live in an environment of its own, whose interpreter the variable PFIT_READERS names: Datumaro asks
    for older releases of pandas, pyarrow and OpenCV than this package is tested with, LabelMe for Qt.
    """
    python = os.environ.get("PFIT_READERS") or (sys.executable if util.find_spec(module) else None)
    if python is None:
        pytest.skip(f"{module} is not installed; set PFIT_READERS to the python of an environment that has it")
    code = f"import sys, numpy as np\nfolder, found = sys.argv[1], {{}}\n{script}\nnp.savez(sys.argv[2], **found)\n"
    target = tmp_path / "found.npz"
    words = [python, "-W", "ignore", "-c", code, str(folder), str(target)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["QT_QPA_PLATFORM"] = "offscreen"
    missing = f"No module named '{module}'"
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment)
    if missing in done.stderr:
        pytest.skip(f"{module} is not among the readers of {python}")
    assert done.returncode == 0, done.stderr
    with np.load(target) as arrays:
        return dict(arrays)
