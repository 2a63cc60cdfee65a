"""The configuration reference is made from the model and knows all of it."""

import re

from support.places import REPOSITORY

from pfit_ray.config import RunConfig
from pfit_ray.config.load import _all_fields
from pfit_ray.config.reference import configuration_page

PAGE = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
LINES = re.findall(r"^- `(.+?)` \((.+?); (required|default `.+?`)\): (.+)$", PAGE, re.MULTILINE)


def line(name: str) -> tuple[str, ...]:
    """What the page says of a field: its type and limits, its default, what it is for."""
    (found,) = [rest for field, *rest in LINES if field == name]
    return tuple(found)


def test_the_committed_page_is_up_to_date() -> None:
    assert configuration_page() == PAGE, "run: python -m pfit_ray.config.reference > docs/configuration.md"


def test_every_field_has_its_row() -> None:
    entries = ("regions.sources.", "resources.node_types.")
    names = {name for name in _all_fields(RunConfig) if not name.startswith(entries)}
    sections = {name.rpartition(".")[0] for name in names}
    listed = {field for field, *_ in LINES}
    assert len(LINES) == len(re.findall("^- `", PAGE, re.MULTILINE))
    same = dict(re.findall(r"^- \*\*`(.+?)`\*\*: fields and defaults as in `(.+?)`", PAGE, re.MULTILINE))
    assert set(same) == {
        "data.classifier", "data.predict", "affinitynet.backbone", "affinitynet.train", "deeplab.backbone",
        "deeplab.train", "pseudo_label.crf", "resources.network", "resources.cpu",
    }  # fmt: skip
    for place, first in same.items():
        listed |= {name.replace(first, place, 1) for name in listed if name.startswith(f"{first}.")}
    assert names - sections - listed == set()
    assert {"kind", "uss", "max_nodes", "keys_column"} <= listed


def test_lines_say_what_the_model_says() -> None:
    assert line("output")[:2] == ("text, not empty", "required")
    assert line("seed")[:2] == ("integer, ≥ 0, < 2147483648", "default `0`")
    assert line("walk.radius")[:2] == ("integer, ≥ 2, ≤ 20, grid cells of 4 pixels", "default `5`")
    assert line("cam.scales")[:2] == (
        "list of number, not empty, each > 0, each ≤ 8", "default `[0.5, 1.0, 1.5, 2.0]`",
    )  # fmt: skip
    assert line("cam.fidelity")[:2] == ("`lossless`, `reference` or null", "default `null`")
    assert line("classifier.train.crop")[0] == "integer, ≥ 16, multiple of 16, pixels"
    assert line("walk.exp_times")[2] == "The walk takes 2 to this power steps."


def test_defaults_are_those_of_the_place_where_a_section_stands() -> None:
    places = ("classifier", "affinitynet", "deeplab")
    assert [line(f"{place}.train.epochs")[1] for place in places] == [f"default `{n}`" for n in (15, 3, 50)]
    iterations = [line(f"{place}.crf.iterations")[1] for place in ("affinity_label", "pseudo_label")]
    assert iterations == ["default `10`", "default `1`"]
    assert line("resources.fetch.cpus")[1] == "default `0.25`"
    assert line("regions.sources")[1] == "default `[{kind: slic}, {kind: quickshift}]`"
