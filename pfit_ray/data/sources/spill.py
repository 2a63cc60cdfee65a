"""Sets and maps of texts that may be larger than memory: temporary tables of SQLite.

A table has a cache of 32 MB and spills into a file in the machine's temporary directory (`TMPDIR`), which disappears
with the process. An entry takes some 50 bytes and its text; a million entries take a few seconds.
"""

import sqlite3
from collections.abc import Iterable, Iterator

_CACHE_KB = 32_768


class SeenTexts:
    """Remembers texts."""

    def __init__(self) -> None:
        self._database = _connect()
        self._database.execute("CREATE TABLE seen (text BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, text: str) -> bool:
        """Remember a text, and say whether it is new."""
        return self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (_blob(text),)).rowcount > 0


class TextMap:
    """Lists of values by key.

    Args:
        pairs: keys and values; the values of one key keep their order.
    """

    def __init__(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        self._database = _connect()
        self._database.execute("CREATE TABLE pairs (key BLOB, value BLOB)")
        rows = ((_blob(key), None if value is None else _blob(value)) for key, value in pairs)
        self._database.executemany("INSERT INTO pairs VALUES (?, ?)", rows)
        self._database.execute("CREATE INDEX by_key ON pairs (key)")
        self._database.execute("CREATE TABLE claims (key BLOB PRIMARY KEY, claimant BLOB) WITHOUT ROWID")

    def get(self, key: str) -> list[str | None]:
        """The values of a key; none if there is no such key."""
        found = self._database.execute("SELECT value FROM pairs WHERE key = ? ORDER BY rowid", (_blob(key),))
        return [None if value is None else _text(value) for (value,) in found]

    def groups(self) -> Iterator[tuple[str, list[str | None]]]:
        """Keys and their values, in the order of the first of each."""
        for (key,) in self._database.execute("SELECT key FROM pairs GROUP BY key ORDER BY min(rowid)"):
            yield _text(key), self.get(_text(key))

    def claim(self, key: str, claimant: str | None = None) -> str | None:
        """Note that a key is used, and return its first claimant."""
        values = (_blob(key), None if claimant is None else _blob(claimant))
        self._database.execute(
            "INSERT INTO claims VALUES (?, ?) ON CONFLICT (key) DO UPDATE "
            "SET claimant = coalesce(claimant, excluded.claimant)",
            values,
        )
        (first,) = self._database.execute("SELECT claimant FROM claims WHERE key = ?", values[:1]).fetchone()
        return None if first is None else _text(first)

    def unclaimed(self) -> tuple[int, str]:
        """How many keys were not used, and the first of them."""
        count, first = self._database.execute(
            "SELECT count(DISTINCT key), min(key) FROM pairs WHERE key NOT IN (SELECT key FROM claims)"
        ).fetchone()
        return count, _text(first or b"")


def _connect() -> sqlite3.Connection:
    """A database in memory that spills into a file without a name."""
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{_CACHE_KB}"):
        database.execute(f"PRAGMA {setting}")
    database.execute("BEGIN")  # never ended: each statement of its own would be written out at once
    return database


def _blob(text: str) -> bytes:
    """File names need not be UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _text(blob: bytes) -> str:
    return blob.decode("utf-8", "surrogateescape")
