"""Contact sheets of the VOC-animals experiment: whose pseudo labels fail, and whose pooling has changed most."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from voc_animals_bench import Bench

from pfit_ray.constants import Row, voc_palette
from pfit_ray.data.sources.item import Item
from pfit_ray.results.drawing import Tile, compose_sheet, heat_overlay, label_overlay, region_picture

BESIDE = 3
"""Photographs that pooling made better, and as many that it made worse, are drawn beside those that fail."""


def write_sheets(
    bench: Bench,
    items: Sequence[Item],
    name: str,
    affinitynet: str,
    labels: dict[str, list[np.ndarray]],
    folder: Path,
    count: int = 6,
) -> None:
    """Draw an arm's photographs with the lowest IoU of the pooled pseudo label, and those that pooling changed most.

    Args:
        bench: what knows the maps of a photograph.
        items: the photographs.
        name: the arm.
        affinitynet: its AffinityNet.
        labels: their pseudo labels by what walked; drawn are `cam` and `cam pooled`.
        folder: where the PNG files go.
        count: photographs that fail.
    """
    before, after = (
        np.array([mean_iou(bench.matrix(item, label)) for item, label in zip(items, labels[source], strict=True)])
        for source in ("cam", "cam pooled")
    )
    worst, changed = np.argsort(after, kind="stable")[:count], np.argsort(after - before, kind="stable")
    groups = {"fails": worst, "pooling harms": changed[:BESIDE], "pooling helps": changed[: -BESIDE - 1 : -1]}
    folder.mkdir(parents=True, exist_ok=True)
    print(f"\n| {name} | photograph | mean IoU of its labels | pooled |\n|---|---|---|---|")
    for group, chosen in groups.items():
        for rank, number in enumerate(chosen, start=1):
            item = items[number]
            told = f"{100 * before[number]:.1f} | {100 * after[number]:.1f}"
            print(f"| {group} | {item.image_id} | {told} |")
            maps = bench.maps(item, name, affinitynet)
            both = [labels[source][number] for source in ("cam", "cam pooled")]
            sheet = _sheet(f"{item.image_id}: {told}", bench, maps, both, bench.truth(item))
            (folder / f"{name} {group} {rank} {item.image_id}.png").write_bytes(sheet)


def mean_iou(matrix: np.ndarray) -> float:
    """Mean IoU, 0..1, of the labels that a photograph has, by ground truth or by its label map."""
    labels = len(matrix)
    right = np.diagonal(matrix)
    union = matrix.sum(axis=1) + matrix[:, :labels].sum(axis=0) - right
    return float((right[union > 0] / union[union > 0]).mean())


def _sheet(title: str, bench: Bench, maps: Row, pseudo: list[np.ndarray], truth: np.ndarray) -> bytes:
    photo = maps["image"]
    sources = [column for column in maps if column.startswith("regions_")]
    tiles = [
        Tile("photograph", photo),
        _heat("CAM", photo, maps["hr_cam"]),
        *(Tile(f"regions, {column.removeprefix('regions_')}", region_picture(maps[column])) for column in sources),
        _heat("seed map", photo, maps["combined_hr_cam"]),
        Tile("edge", heat_overlay(photo, maps["edge"])),
        _heat("random walk", photo, maps["hr_walk"]),
        Tile("pseudo label", label_overlay(photo, pseudo[0])),
        Tile("pseudo label, pooled", label_overlay(photo, pseudo[1])),
        Tile("ground truth", label_overlay(photo, truth)),
    ]
    palette = voc_palette()
    names = bench.config.data.class_list
    return compose_sheet(title, [(names.name(key), tuple(map(int, palette[key]))) for key in maps["keys"]], tiles)


def _heat(caption: str, photo: np.ndarray, maps: np.ndarray) -> Tile:
    strongest = maps.max(axis=0)
    return Tile(caption, heat_overlay(photo, strongest / max(float(strongest.max()), 1e-6)))
