"""Rows as one block of bytes between two operators: every dtype and shape kept, nothing pickled."""

import json
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from pfit_ray.constants import Row
from pfit_ray.errors import UserError

Packed = dict[str, Any]
"""A Ray Data row that carries one shard: `shard` (int) and `rows` (bytes), or instead of these a `mistake` (str)."""

MISTAKE = "mistake"

NODES = "nodes"
"""Column that says which node each operator ran on so far, as JSON."""

Where = Callable[[], str]
"""Tells the id of the node that it is called on."""


def carry_mistakes(operator: Callable[[Any, Packed], Packed]) -> Callable[[Any, Packed], Packed]:
    """Decorate an operator so that a user's mistake travels on as data, past the operators that follow.

    The driver raises it again. As an exception it would arrive as printed text only.
    """

    @wraps(operator)
    def call(self: Any, packed: Packed) -> Packed:
        if MISTAKE in packed:
            return packed
        try:
            return operator(self, packed)
        except UserError as error:
            return {MISTAKE: str(error)}

    return call


def visited(packed: Packed, operator: str, where: Where | None) -> dict[str, str]:
    """The nodes that a shard has been on, by operator, and this one; none without `where`."""
    if where is None:
        return {}
    nodes: dict[str, str] = json.loads(packed.get(NODES, "{}"))
    return nodes | {operator: where()}


def pack_rows(rows: Sequence[Row], meta: dict[str, Any]) -> bytes:
    """Pack rows and a small JSON value.

    Args:
        rows: values may be arrays, lists of arrays, bytes, or anything that JSON holds.
        meta: what the operator tells the next one, such as timings.

    Returns:
        Arrays as safetensors, the rest as a JSON document in front of them.
    """
    arrays: dict[str, np.ndarray] = {}
    plain: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        record: dict[str, Any] = {}
        for name, value in row.items():
            key = f"{index}/{name}"
            if isinstance(value, np.ndarray):
                arrays[key] = np.ascontiguousarray(value)
                record[name] = {"$": "array"}
            elif isinstance(value, bytes):
                arrays[key] = np.frombuffer(value, dtype=np.uint8)
                record[name] = {"$": "bytes"}
            elif isinstance(value, list) and value and isinstance(value[0], np.ndarray):
                for part, array in enumerate(value):
                    arrays[f"{key}/{part}"] = np.ascontiguousarray(array)
                record[name] = {"$": len(value)}
            else:
                record[name] = value
        plain.append(record)
    document = json.dumps({"meta": meta, "rows": plain}).encode()
    arrays["$"] = np.frombuffer(document, dtype=np.uint8)
    return save(arrays)


def unpack_rows(data: bytes) -> tuple[list[Row], dict[str, Any]]:
    """The rows and the meta value of `pack_rows`; arrays are writable copies."""
    arrays = load(data)
    document = json.loads(arrays["$"].tobytes())
    rows = document["rows"]
    for index, row in enumerate(rows):
        for name, value in row.items():
            if not (isinstance(value, dict) and "$" in value):
                continue
            key, kind = f"{index}/{name}", value["$"]
            if kind == "array":
                row[name] = arrays[key]
            elif kind == "bytes":
                row[name] = arrays[key].tobytes()
            else:
                row[name] = [arrays[f"{key}/{part}"] for part in range(kind)]
    return rows, document["meta"]
