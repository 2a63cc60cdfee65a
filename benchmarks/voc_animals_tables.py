"""Tables of the VOC-animals experiment, as they stand in docs/research/results.md."""

from collections.abc import Sequence

import numpy as np
from voc_animals_arms import PUBLISHED
from voc_animals_bench import THRESHOLDS
from voc_animals_scores import best_miou, difference, measured, other_half, sureness, taken

Chosen = tuple[tuple[float, float], tuple[float, float]]
"""Thresholds of sure foreground and background for the photographs of each half."""


def print_seeds(arms: Sequence[str], sweeps: dict[str, np.ndarray]) -> None:
    """Seed maps of each arm."""
    plain = taken(sweeps["none"], other_half(sweeps["none"], best_miou))
    print("\n| arm | seed map mIoU | FP | FN | against the CAM | thresholds |\n|---|---|---|---|---|---|")
    for name in arms:
        chosen = other_half(sweeps[name], best_miou)
        matrices = taken(sweeps[name], chosen)
        found = measured(matrices)
        levels = " ".join(f"{THRESHOLDS[index]:.2f}" for index in chosen)
        print(
            f"| {name} | {_interval(found.miou)} | {found.fp:.1f} | {found.fn:.1f} | "
            f"{_interval(difference(matrices, plain), '+')} | {levels} |"
        )


def print_labels(found: dict[str, np.ndarray], thresholds: dict[str, tuple[Chosen, tuple[float, float]]]) -> None:
    """Affinity labels of each arm, with the thresholds of the halves and those from all photographs."""
    print("\n| arm | sure foreground right | sure background right | sure pixels | thresholds | from all |")
    print("|---|---|---|---|---|---|")
    for name, matrices in found.items():
        foreground, background, coverage = (100 * value for value in sureness(matrices.sum(axis=0)))
        halves, everything = thresholds[name]
        each = ", ".join("{:.2f} / {:.2f}".format(*one) for one in halves)
        print(
            f"| {name} | {foreground:.1f} | {background:.1f} | {coverage:.1f} | {each} | "
            f"{everything[0]:.2f} / {everything[1]:.2f} |"
        )


def print_walks(found: dict[str, dict[str, np.ndarray]]) -> None:
    """Walked maps and pseudo labels of each arm."""
    against = found.get(PUBLISHED, next(iter(found.values())))
    print("\n| arm | what | mIoU | FP | FN | against the published arm |\n|---|---|---|---|---|---|")
    for name, by_kind in found.items():
        for kind, matrices in by_kind.items():
            numbers = measured(matrices)
            more = _interval(difference(matrices, against[f"{kind.partition(' ')[0]} cam"]), "+")
            print(f"| {name} | {kind} | {_interval(numbers.miou)} | {numbers.fp:.1f} | {numbers.fn:.1f} | {more} |")


def print_finals(found: dict[str, np.ndarray]) -> None:
    """Predictions of the final networks; the first has learned from ground truth."""
    ceiling = measured(next(iter(found.values()))).miou[0]
    published = found.get(PUBLISHED, next(iter(found.values())))
    print("\n| learned from | mIoU on val | FP | FN | of the ceiling | against the published arm |")
    print("|---|---|---|---|---|---|")
    for name, matrices in found.items():
        numbers = measured(matrices)
        more = _interval(difference(matrices, published), "+")
        ratio = numbers.miou[0] / ceiling
        print(f"| {name} | {_interval(numbers.miou)} | {numbers.fp:.1f} | {numbers.fn:.1f} | {ratio:.2f} | {more} |")


def _interval(value: tuple[float, float, float], sign: str = "") -> str:
    middle, low, high = (f"{one:{sign}.2f}" for one in value)
    return f"{middle} [{low}, {high}]"
