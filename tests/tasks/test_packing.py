import json

import numpy as np
import pytest
from safetensors.numpy import load

from pfit_ray.errors import UserError
from pfit_ray.tasks.packing import Packed, carry_mistakes, pack_rows, unpack_rows

ARRAYS = {
    "bool": np.array([[True, False]]),
    "float16": np.array([0.5, -1.0], dtype=np.float16),
    "float32": np.array([[[1e-30]]], dtype=np.float32),
    "float64": np.array([np.pi]),
    "uint8": np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
    "int32": np.array([-1], dtype=np.int32),
    "int64": np.array([2**62], dtype=np.int64),
    "nothing": np.zeros((0,), dtype=np.int32),
    "no_classes": np.zeros((0, 4, 5), dtype=np.float32),
    "no_masks": np.zeros((0, 4, 5), dtype=bool),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_with_dtype_and_shape(name: str) -> None:
    (row,), _ = unpack_rows(pack_rows([{"x": ARRAYS[name]}], {}))
    assert row["x"].dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(row["x"], ARRAYS[name], strict=True)


def test_plain_values_bytes_and_lists_come_back() -> None:
    rows = [
        {"image_id": "a", "keys": [], "scores": [0.5, 1.0], "label": None, "height": 3, "ok": True, "encoded": b"\x00"},
        {},
        {"image_id": "ä/$", "nested": [[1, 2], []], "table": {"a": {"b": None}}, "encoded": b"", "empty": []},
    ]
    meta = {"cam": {"images": 2, "seconds": 0.25}}
    assert unpack_rows(pack_rows(rows, meta)) == (rows, meta)


def test_lists_of_arrays_keep_their_order() -> None:
    maps = [np.full((2, size, size), size, dtype=np.float32) for size in range(12)]
    (row,), _ = unpack_rows(pack_rows([{"cam_maps": maps}], {}))
    assert len(row["cam_maps"]) == 12
    for found, expected in zip(row["cam_maps"], maps, strict=True):
        np.testing.assert_array_equal(found, expected, strict=True)


def test_arrays_that_are_not_contiguous() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    (row,), _ = unpack_rows(pack_rows([{"mirror": image[:, ::-1], "planes": image.transpose(2, 0, 1)}], {}))
    np.testing.assert_array_equal(row["mirror"], image[:, ::-1])
    np.testing.assert_array_equal(row["planes"], image.transpose(2, 0, 1))


def test_unpacked_arrays_can_be_written_to() -> None:
    (row,), _ = unpack_rows(pack_rows([{"x": np.zeros(2)}], {}))
    row["x"][0] = 1
    assert row["x"].tolist() == [1, 0]


def test_no_rows() -> None:
    assert unpack_rows(pack_rows([], {})) == ([], {})


def test_nothing_is_pickled() -> None:
    document = load(pack_rows([{"x": np.zeros(2), "b": b"1"}], {"a": 1}))["$"].tobytes()
    assert json.loads(document) == {"meta": {"a": 1}, "rows": [{"x": {"$": "array"}, "b": {"$": "bytes"}}]}
    with pytest.raises(TypeError, match="not JSON serializable"):
        pack_rows([{"x": object()}], {})


def test_a_mistake_travels_past_the_operators_that_follow() -> None:
    class Operator:
        calls = 0

        @carry_mistakes
        def __call__(self, packed: Packed) -> Packed:
            self.calls += 1
            if packed["shard"] == 2:
                raise UserError("shard 2 is not for us")
            return {"shard": packed["shard"], "rows": b""}

    first, second = Operator(), Operator()
    assert [second(first({"shard": shard})) for shard in (1, 2)] == [
        {"shard": 1, "rows": b""},
        {"mistake": "shard 2 is not for us"},
    ]
    assert (first.calls, second.calls) == (2, 1)
