"""The table of docs/architecture.md of what stages read and add; `python tests/support/column_table.py` writes it."""

from collections.abc import Iterable
from pathlib import Path

from pfit_ray.config import PASSES
from pfit_ray.config.load import validate
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.tasks.fetch import SOURCE_COLUMNS
from pfit_ray.tasks.passes import plan_pass

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
MARKS = "<!-- columns -->\n", "<!-- /columns -->"
SOURCES = ("slic", "quickshift")


def column_table() -> str:
    """A row for each stage of a run with default settings; `NAME` stands for each region source."""
    config = validate({"output": "run", "data": {"source": "samples"}})
    lines = ["| pass | stage | reads | adds |", "|---|---|---|---|"]
    for name in PASSES:
        plan = plan_pass(name, config, RunDirectory("run"))
        earlier = plan.upstream.adds if plan.upstream else ()
        lines.append(_line(name, "fetch", (), (*SOURCE_COLUMNS, *earlier)))
        for stage in (*plan.network, *plan.finish):
            lines.append(_line(name, stage.name, stage.reads, stage.adds or ()))
    return "\n".join(dict.fromkeys(lines)) + "\n"


def _line(name: str, stage: str, reads: Iterable[str], adds: Iterable[str]) -> str:
    cells = (", ".join(dict.fromkeys(f"`{_any_source(column)}`" for column in columns)) for columns in (reads, adds))
    return f"| {name} | {_any_source(stage)} | {' | '.join(cells)} |"


def _any_source(column: str) -> str:
    for source in SOURCES:
        column = column.removesuffix(f"_{source}") + ("_NAME" if column.endswith(f"_{source}") else "")
    return column


def split_page() -> tuple[str, str, str]:
    """The page before, in and behind the table."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    table, _, behind = rest.partition(MARKS[1])
    return before, table, behind


if __name__ == "__main__":
    before, _, behind = split_page()
    PAGE.write_text(before + MARKS[0] + column_table() + MARKS[1] + behind, encoding="utf-8")
