import io
import json
from typing import Any

import pytest

from pfit_ray.data.sources import json_elements as module
from pfit_ray.data.sources.json_elements import json_elements

DOCUMENT: dict[str, Any] = {
    "info": {"a": [1, 2]}, "images": [{"id": 1, "n": "é\\\"]}"}, {"id": 2}], "year": 2014, "none": [],
    "annotations": [{"id": n, "s": [[0.5] * n]} for n in range(30)], "last": -12.5,
}  # fmt: skip
PARTS = [(name, one) for name, ones in DOCUMENT.items() if isinstance(ones, list) for one in ones]


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_elements_of_lists(chunk: int, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    text = json.dumps(DOCUMENT, indent=indent, ensure_ascii=False)
    for data in (text.encode(), b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\n"):
        assert list(json_elements(io.BytesIO(data))) == PARTS
    assert list(json_elements(io.BytesIO(b" { } "))) == []
    assert list(json_elements(io.BytesIO(b'{"a": [123, 456]}'))) == [("a", 123), ("a", 456)]


@pytest.mark.parametrize("text", ["", "[1]", '{"a": [1, 2', '{"a" 1}', '{"a": [1 2]}', '{"a": tru', '{"a": [{"b": 1]}'])
def test_what_is_no_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        list(json_elements(io.BytesIO(text.encode())))


def test_an_element_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGEST", 100)
    monkeypatch.setattr(module, "_CHUNK", 10)
    with pytest.raises(ValueError, match="more than 100"):
        list(json_elements(io.BytesIO(b'{"a": ["' + b"x" * 1000 + b'"]}')))
