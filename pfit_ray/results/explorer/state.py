"""What the pages of one explorer share: the index, the marks, the pictures, and what is being read."""

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from markupsafe import escape
from numpy.typing import NDArray

from pfit_ray.config import RunConfig
from pfit_ray.errors import RowError, UserError
from pfit_ray.results.explorer.index import Index
from pfit_ray.results.explorer.layers import Pictures
from pfit_ray.results.explorer.query import UNMARKED, Query, select
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.review import MARKS, Mark, Marked, MarkTable

_DRAWERS = 4
"""Pictures that are drawn at the same time: each holds a decoded image."""
_NO_PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 224 168"><rect width="224" height="168" fill="#3d4450"/>'
    '<text x="112" y="88" fill="#fff" font-family="sans-serif" font-size="16" text-anchor="middle">'
    "no picture: {}</text></svg>"
)


class Explorer:
    """A run's images, their marks and their pictures.

    Args:
        config: the run's config.
        run: the run directory.
    """

    def __init__(self, config: RunConfig, run: RunDirectory) -> None:
        self.config = config
        self.run = run
        self.index = Index(run, len(config.data.class_list))
        self.pictures = Pictures(config, self.index)
        self.table = MarkTable(run)
        self.problem: str | None = None
        """Why the results could not be read to the end."""
        self._drawing = threading.BoundedSemaphore(_DRAWERS)
        self._refreshing = threading.Lock()
        self._marking = threading.Lock()
        self._marks_version = 0
        self._take_marks(self.table.read())
        self._select = lru_cache(maxsize=16)(lambda query, *versions: select(self.index, self._marks, query))

    def refresh(self) -> None:
        """Read what is new of the run and of its marks; what cannot be read is in `problem`."""
        with self._refreshing:
            try:
                self.problem = None
                with self._marking:
                    self._take_marks(self.table.read())
                self.index.refresh()
            except (UserError, OSError) as error:
                self.problem = str(error)

    def refresh_aside(self, patience: float) -> None:
        """The same in a thread of its own, unless one is at it; its end is awaited for so many seconds."""
        if not self._refreshing.locked():
            thread = threading.Thread(target=self.refresh, name="explorer", daemon=True)
            thread.start()
            thread.join(patience)

    @property
    def reading(self) -> bool:
        """Whether results are being read."""
        return self._refreshing.locked()

    def find(self, query: Query) -> NDArray[np.int32]:
        """Rows of the index that a query finds."""
        found: NDArray[np.int32] = self._select(query, self.index.version, self._marks_version)
        return found

    def mark_of(self, row: int) -> str:
        """The mark of an image, or `none`."""
        code = self._marks[row]
        return UNMARKED if code < 0 else MARKS[code]

    def mark(self, row: int, mark: Mark | None) -> None:
        """Mark an image, or take its mark away; it is stored when this returns."""
        with self._marking:
            self._take_marks(self.table.set(self.index.ids[row].as_py(), mark))

    def mark_counts(self) -> dict[str, int]:
        """Images by mark."""
        counts = np.bincount(self._marks + 1, minlength=len(MARKS) + 1)
        return dict(zip((UNMARKED, *MARKS), counts.tolist(), strict=True))

    def draw(self, draw: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str]:
        """Draw a picture, a few at a time; where the image does not allow it, one that says so."""
        with self._drawing:
            try:
                return draw()
            except RowError as error:
                return _NO_PICTURE.format(escape(error.reason)).encode(), "image/svg+xml"

    def _take_marks(self, marks: Mapping[str, Marked]) -> None:
        codes = np.full(len(self.index), -1, np.int8)
        ids = self.index.rows(list(marks))
        for row, marked in zip(ids, marks.values(), strict=True):
            if row >= 0:
                codes[row] = MARKS.index(marked.mark)
        self._marks = codes
        self._marks_version += 1
