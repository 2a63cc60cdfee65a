"""Which images a page shows, and in which order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pfit_ray.results.explorer.index import SCORE_NAMES, STATUS_NAMES, Index
from pfit_ray.rundir.review import MARKS

UNMARKED = "none"
ORDERS = ("listed", "id", *SCORE_NAMES)
_MAX_TEXT = 200


@dataclass(frozen=True)
class Query:
    """Filters and order; texts as in the page's address, "" for no filter."""

    class_id: int | None = None
    """0: images without any class."""
    status: str = ""
    reason: str = ""
    mark: str = ""
    text: str = ""
    """Part of the image id."""
    score: str = ""
    """The score that `low` and `high` are about."""
    low: float | None = None
    high: float | None = None
    sort: str = "listed"
    descending: bool = False

    @classmethod
    def parse(cls, words: Mapping[str, str]) -> "Query":
        """The query of a page's address; what means nothing is left out."""
        class_id = words.get("class", "")
        return cls(
            class_id=int(class_id) if class_id.isdecimal() and len(class_id) < 4 else None,
            status=_one_of(words.get("status", ""), STATUS_NAMES),
            reason=words.get("reason", "")[:_MAX_TEXT],
            mark=_one_of(words.get("mark", ""), (*MARKS, UNMARKED)),
            text=words.get("text", "").strip()[:_MAX_TEXT],
            score=_one_of(words.get("score", ""), SCORE_NAMES),
            low=_number(words.get("low", "")),
            high=_number(words.get("high", "")),
            sort=_one_of(words.get("sort", ""), ORDERS) or "listed",
            descending=words.get("descending", "") == "1",
        )

    def words(self) -> dict[str, str]:
        """What `parse` takes, without what is as by default."""
        result = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if value != one.default:
                name = "class" if one.name == "class_id" else one.name
                result[name] = "1" if value is True else str(value).removesuffix(".0")
        return result


def select(index: Index, marks: NDArray[np.int8], query: Query) -> NDArray[np.int32]:
    """Rows of the index that a query finds, in its order.

    Args:
        index: all images.
        marks: of each image the place of its mark in `MARKS`, or -1.
        query: what to find.
    """
    chosen = np.ones(len(index), np.bool_)
    if query.class_id is not None:
        chosen &= index.has_class(query.class_id)
    if query.status:
        chosen &= index.statuses() == STATUS_NAMES.index(query.status)
    if query.reason:
        code = index.reasons.index(query.reason) if query.reason in index.reasons else -2
        chosen &= index.reason_codes() == code
    if query.mark:
        chosen &= marks == (-1 if query.mark == UNMARKED else MARKS.index(query.mark))
    if query.text:
        chosen &= pc.match_substring(index.ids, query.text, ignore_case=True).to_numpy(zero_copy_only=False)
    if query.score:
        values = index.scores[query.score]
        if query.low is not None:
            chosen &= values >= query.low
        if query.high is not None:
            chosen &= values <= query.high
    rows = np.flatnonzero(chosen).astype(np.int32)
    return rows[_order(index, rows, query)]


def _order(index: Index, rows: NDArray[np.int32], query: Query) -> NDArray[np.intp]:
    """Order of some rows; equal ones as listed, those without the score last."""
    if query.sort == "listed":
        order = np.arange(len(rows))
        return order[::-1] if query.descending else order
    if query.sort == "id":
        way = "descending" if query.descending else "ascending"
        return pc.array_sort_indices(index.ids.take(rows), order=way).to_numpy().astype(np.intp)
    values = index.scores[query.sort][rows]
    return np.argsort(-values if query.descending else values, kind="stable")


def _one_of(word: str, words: tuple[str, ...]) -> str:
    return word if word in words else ""


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
