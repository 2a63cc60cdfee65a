from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pfit_ray.config.training import TrainingConfig
from pfit_ray.errors import RowError, UserError
from pfit_ray.train.examples import Example, Examples, example_rng, read_examples

TRAINING = TrainingConfig(crop=32, min_side=24, max_side=48)


def label_target(keys: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return label


def make_examples(table: pa.Table, seed: int = 0) -> Examples:
    return Examples(
        table,
        TRAINING,
        label_target,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        seed=seed,
        max_pixels=10**6,
        with_labels=True,
    )


@pytest.fixture
def table(corpus: Path) -> pa.Table:
    return read_examples(str(corpus / "examples.parquet"))


def with_column(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    values = table[name].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))


def equal(one: Example, other: Example) -> bool:
    return np.array_equal(one.image, other.image) and np.array_equal(one.target, other.target)


def test_item_has_image_and_label(table: pa.Table) -> None:
    example = make_examples(table).item(0, epoch=0)
    assert example.image.shape == (3, 32, 32)
    assert example.image.dtype == np.float32
    assert example.target.shape == (32, 32)
    assert set(np.unique(example.target)) <= {0, 1, 255}
    assert example.skipped == ()


def test_item_follows_from_seed_epoch_repeat_and_image(table: pa.Table) -> None:
    examples = make_examples(table)
    first = examples.item(2, epoch=1)
    reordered = make_examples(table.take([4, 3, 2, 1, 0])).item(2, epoch=1)
    assert equal(first, reordered)
    assert equal(first, make_examples(table.slice(2, 1)).item(0, epoch=1))
    assert not equal(first, examples.item(2, epoch=2))
    assert not equal(first, examples.item(2, epoch=1, repeat=1))
    assert not equal(first, make_examples(table, seed=1).item(2, epoch=1))


def test_rng_is_the_same_in_every_process() -> None:
    assert example_rng(0, 1, 0, "2007_000032").integers(0, 10**6, 3).tolist() == [540951, 505033, 404308]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("uri", "/nowhere/i1.png", "/nowhere/i1.png does not exist"),
        ("keys", None, "no image-level label is known for the image"),
        ("label_url", None, "the training table names no label map for the image"),
        ("label_size", 10**6, "the shard is damaged"),
    ],
)
def test_unusable_example_is_replaced_by_the_next(table: pa.Table, column: str, value: object, message: str) -> None:
    examples = make_examples(with_column(table, column, 1, value))
    example = examples.item(1, epoch=0)
    assert equal(example, examples.item(2, epoch=0))
    ((image_id, why),) = example.skipped
    assert image_id == "i1"
    assert message in why


def test_last_example_is_replaced_by_the_first(table: pa.Table) -> None:
    examples = make_examples(with_column(table, "uri", 4, "/nowhere/i4.png"))
    assert equal(examples.item(4, epoch=0), examples.item(0, epoch=0))


def test_label_of_another_size_is_skipped(table: pa.Table) -> None:
    other = with_column(table, "uri", 0, table["uri"][1].as_py())
    example = make_examples(other).item(0, epoch=0)
    assert [image_id for image_id, _ in example.skipped] == ["i0"]


def test_unexpected_errors_are_skipped_too(table: pa.Table) -> None:
    def fails_once(keys: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if keys.tolist() == [1]:
            raise ZeroDivisionError("odd")
        return label

    examples = make_examples(table)
    examples.make_target = fails_once
    assert examples.item(0, epoch=0).skipped == (("i0", "ZeroDivisionError: odd"),)


def test_nothing_usable(table: pa.Table) -> None:
    def refuse(keys: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        raise RowError("error", "never")

    examples = make_examples(table)
    examples.make_target = refuse
    with pytest.raises(UserError, match=r"5 images one after another cannot be used, the first is 'i3' \(never\)"):
        examples.item(3, epoch=0)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no training table at"):
        read_examples(str(tmp_path / "none.parquet"))


def test_empty_table(tmp_path: Path, table: pa.Table) -> None:
    pa.parquet.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="has no images"):
        read_examples(str(tmp_path / "empty.parquet"))
