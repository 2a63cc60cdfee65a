"""All sentences for users in one place: `python tests/test_messages.py` shows them, and the tests hold their form.

Tests elsewhere go by reasons, fields and names.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "pfit_ray"
ERRORS = {"UserError": 0, "RowError": 1, "ValueError": 0}
"""Which argument of each error is its sentence."""
TRANSLATED = re.compile(
    r"\b(stands? (twice|there)|means? nothing|such a one|of (its|their) own kind|works there|null takes|"
    r"(?<!there )(is|are) no (?!longer)\w+|photographs?|give another place|take another|needed is|"
    r"(?<!ground )truth of|is wanted|are wanted)\b"
)
"""Words that were found in messages that sounded translated, and names that the package does not use."""


class Message(NamedTuple):
    place: str
    error: str
    text: str


def template(node: ast.expr) -> str:
    """The sentence as it is written, with `{...}` for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(template(part) for part in parts)
        case ast.IfExp(body=body):
            return template(body)
        case ast.BinOp(left=left, right=right):
            return template(left) + template(right)
    return "{...}"


def messages() -> Iterator[Message]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                text = template(node.args[ERRORS[node.func.id]])
                if text.strip("{}. ") != "":
                    yield Message(f"{path.relative_to(PACKAGE)}:{node.lineno}", node.func.id, text)


ALL = list(messages())


def test_all_are_found() -> None:
    counts = {error: sum(one.error == error for one in ALL) for error in ERRORS}
    assert counts["UserError"] > 150, counts
    assert counts["RowError"] > 60, counts
    assert counts["ValueError"] > 150, counts


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.place)
def test_a_message_is_one_plain_sentence(one: Message) -> None:
    assert "\n" not in one.text
    assert "  " not in one.text
    assert not one.text.endswith((".", "!")) or one.text.endswith("..."), "it goes on, or into a table"
    assert not re.match(r"[A-Z][a-z]+ [a-z]", one.text), "it follows a place, such as `config: `"
    assert len(one.text) < 420
    found = TRANSLATED.search(one.text)
    assert found is None, found


def test_what_sounds_translated_would_be_found() -> None:
    for text in ("class 'a' stands twice", "this is no network", "set name to such a one", "99 % are wanted"):
        assert TRANSLATED.search(text), text
    assert not TRANSLATED.search("row 3 is no longer 'a'; the ground truth of the image is unreadable")


if __name__ == "__main__":
    for said in ALL:
        print(f"{said.place}: {said.error}: {said.text}")
