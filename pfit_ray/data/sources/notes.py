"""Notes of a listing besides its images: what it left out, and what it may have misunderstood."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from pfit_ray.data.sources.item import Item, printable

MOST_KINDS = 40
"""Most kinds of notes that are kept apart; later kinds are counted together."""


@dataclass(frozen=True, slots=True)
class Note:
    """One kind of thing that was met, how often, and an example.

    Args:
        what: a noun and what became of it, such as "files left out with the suffix .psd".
        example: the first one: a file, a line, a name.
        remedy: what you can do about it.
        count: how many.
    """

    what: str
    example: str = ""
    remedy: str = ""
    count: int = 1

    def __str__(self) -> str:
        example = f", such as {self.example!r}" if self.example and self.count > 1 else ""
        only = f", {self.example!r}" if self.example and self.count == 1 else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.what}: {self.count}{example}{only}{remedy}"


class Notes:
    """The notes of a listing, each kind once, in the order of the first of each."""

    def __init__(self) -> None:
        self._found: dict[str, Note] = {}

    def add(self, what: str, example: str = "", remedy: str = "", count: int = 1) -> None:
        """Count something; see `Note`. The name of a kind must not contain names of single files or images."""
        self.take(Note(what, example, remedy, count))

    def take(self, note: Note) -> None:
        """Add a note to its kind."""
        note = replace(note, example=printable(note.example))
        if note.what not in self._found and len(self._found) >= MOST_KINDS:
            note = Note("other remarks, not kept apart", f"{note.what}: {note.example}", "", note.count)
        first = self._found.setdefault(note.what, replace(note, count=0))
        self._found[note.what] = replace(first, count=first.count + note.count)

    def sift(self, stream: Iterable[Item | Note]) -> Iterator[Item]:
        """The images of a stream; its notes are taken on the way, in the order of the stream."""
        for thing in stream:
            if isinstance(thing, Note):
                self.take(thing)
            else:
                yield thing

    def __iter__(self) -> Iterator[Note]:
        return iter(self._found.values())

    def document(self) -> list[dict[str, Any]]:
        """As JSON holds them: `what`, `example`, `remedy` and `count` of each."""
        return [asdict(note) for note in self]
