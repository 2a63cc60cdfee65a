"""The elements of the lists in a JSON object, one by one, however large the file is."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

_CHUNK = 1 << 20
_LARGEST = 1 << 28
"""Most characters of one element."""
_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def json_elements(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The name of each list that an object holds, with each element; its other values are skipped.

    Memory holds one element and a megabyte of the text. The file is closed at the end.

    Raises:
        ValueError: when the file is not a JSON object in UTF-8; RecursionError when it is nested too deeply.
    """
    with io.TextIOWrapper(file, "utf-8-sig") as whole:
        yield from _elements(_Window(whole))


def _elements(text: "_Window") -> Iterator[tuple[str, Any]]:
    text.take("{")
    while text.peek() != "}":
        name = text.value()
        text.take(":")
        if text.peek() != "[":
            text.value()
        else:
            text.take("[")
            while text.peek() != "]":
                yield name, text.value()
                if text.peek() != "]":
                    text.take(",")
            text.take("]")
        if text.peek() != "}":
            text.take(",")


class _Window:
    """A text that is read bit by bit."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self.file = file
        self.text = ""
        self.at = 0

    def peek(self) -> str:
        """The next character that is no blank."""
        while True:
            found = _BLANK.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                raise ValueError("it ends too early")

    def take(self, sign: str) -> None:
        """Pass over a character that must come next."""
        if (found := self.peek()) != sign:
            raise ValueError(f"{sign!r} is expected, not {found!r}")
        self.at += 1

    def value(self) -> Any:
        """The value that comes next."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                if end < len(self.text):  # a number at the end of the window may go on
                    self.at = end
                    return value
            except json.JSONDecodeError as error:
                if not self._more():
                    raise ValueError(str(error)) from error
            else:
                if not self._more():
                    self.at = len(self.text)
                    return value

    def _more(self) -> bool:
        self.text, self.at = self.text[self.at :], 0
        if len(self.text) > _LARGEST:
            raise ValueError(f"it has an element of more than {_LARGEST} characters")
        chunk = self.file.read(max(_CHUNK, len(self.text)))
        self.text += chunk
        return bool(chunk)
