"""The configuration reference is made from the model and knows all of it."""

import re

from support.places import REPOSITORY

from pfit_ray.config import RunConfig
from pfit_ray.config.load import _all_fields
from pfit_ray.config.reference import configuration_page

PAGE = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]


def row(name: str) -> list[str]:
    (found,) = [[cell.strip("| ") for cell in cells] for cells in ROWS if cells[0] == f"| `{name}`"]
    return found


def test_the_committed_page_is_up_to_date() -> None:
    assert configuration_page() == PAGE, "run: python -m pfit_ray.config.reference > docs/configuration.md"


def test_every_field_has_its_row() -> None:
    entries = ("regions.sources.", "resources.node_types.")
    names = {name for name in _all_fields(RunConfig) if not name.startswith(entries)}
    sections = {name.rpartition(".")[0] for name in names}
    listed = {cells[0].strip("|` ") for cells in ROWS}
    same = dict(re.findall(r"^\| \*\*`(.+?)`\*\* .* Fields and defaults as in `(.+?)`", PAGE, re.MULTILINE))
    assert set(same) == {
        "data.classifier", "data.predict", "affinitynet.backbone", "affinitynet.train", "deeplab.backbone",
        "deeplab.train", "pseudo_label.crf",
    }  # fmt: skip
    for place, first in same.items():
        listed |= {name.replace(first, place, 1) for name in listed if name.startswith(f"{first}.")}
    assert names - sections - listed == set()
    assert {"kind", "uss", "max_nodes", "keys_column"} <= listed


def test_rows_say_what_the_model_says() -> None:
    assert row("output")[:4] == ["`output`", "text", "required", "not empty"]
    assert row("seed")[1:4] == ["integer", "`0`", "≥ 0, < 2147483648"]
    assert row("walk.radius")[1:4] == ["integer", "`5`", "≥ 2, ≤ 20, grid cells of 4 pixels"]
    assert row("cam.scales")[1:4] == ["list of number", "`[0.5, 1.0, 1.5, 2.0]`", "not empty, each > 0, each ≤ 8"]
    assert row("cam.fidelity")[1:4] == ["`lossless`, `reference` or null", "`null`", ""]
    assert row("classifier.train.crop")[3] == "≥ 16, multiple of 16, pixels"
    assert row("walk.exp_times")[4] == "The walk takes 2 to this power steps."


def test_defaults_are_those_of_the_place_where_a_section_stands() -> None:
    places = ("classifier", "affinitynet", "deeplab")
    assert [row(f"{place}.train.epochs")[2] for place in places] == ["`15`", "`3`", "`50`"]
    assert [row(f"{place}.crf.iterations")[2] for place in ("affinity_label", "pseudo_label")] == ["`10`", "`1`"]
    assert row("resources.fetch.cpus")[2] == "`0.25`"
    assert row("regions.sources")[2] == "`[{kind: slic}, {kind: quickshift}]`"
