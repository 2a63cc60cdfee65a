import pyarrow as pa
import pytest

from pfit_ray.tasks.results import FAILURE_SCHEMA, RESULT_FIELDS, result_schema


@pytest.mark.parametrize("pass_name", ["seeds", "labels", "predict"])
def test_every_pass_has_the_image_its_keys_and_the_place_of_its_label(pass_name: str) -> None:
    names = result_schema(pass_name).names
    assert names[:5] == ["image_id", "uri", "height", "width", "keys"]
    assert names[-2:] == ["label_offset", "label_size"]
    assert len(set(names)) == len(names)


def test_types_that_any_reader_of_parquet_knows() -> None:
    schema = result_schema("seeds")
    assert schema.field("keys").type == pa.list_(pa.int32())
    assert schema.field("cam").type == pa.binary()
    assert schema.field("mask_agreement").type == pa.float32()
    assert list(RESULT_FIELDS) == ["seeds", "labels", "predict"]
    assert FAILURE_SCHEMA.names == ["image_id", "uri", "pass", "stage", "reason", "message", "attempt"]
