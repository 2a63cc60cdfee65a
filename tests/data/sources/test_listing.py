from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sentences import facts

from pfit_ray import storage
from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.data.images import decode_image
from pfit_ray.data.sources.item import Item
from pfit_ray.data.sources.listing import list_images, list_samples, selection
from pfit_ray.data.sources.notes import Notes
from pfit_ray.errors import UserError

ALL = ImageSetConfig()


def test_each_source(tmp_path: Path, voc_animals: Path) -> None:
    storage.write_bytes(str(tmp_path / "a.jpg"), b"x")
    folder = DataConfig(source="folder", root=str(tmp_path), classes=("cat",))
    (item,) = list_images(folder, ALL)
    assert item == Item("a", f"{tmp_path}/a.jpg", size=1, version=item.version)
    assert len(list(list_images(DataConfig(source="samples"), ALL))) == 5
    voc = DataConfig(source="voc", root=str(voc_animals))
    assert len(list(list_images(voc, ImageSetConfig(split="val")))) == 200


def test_limit_takes_the_first(tmp_path: Path) -> None:
    data = DataConfig(source="samples")
    items = list(list_images(data, ALL))
    assert list(list_images(data, ImageSetConfig(limit=2))) == items[:2]
    assert list(list_images(data, ImageSetConfig(limit=99))) == items


def test_empty_sources_stop_at_once(tmp_path: Path) -> None:
    folder = DataConfig(source="folder", root=str(tmp_path), classes=("cat",))
    with pytest.raises(UserError, match=f"data: source 'folder' found no image in '{tmp_path}'; check data.root"):
        list_images(folder, ALL)
    (tmp_path / "JPEGImages").mkdir()
    storage.write_bytes(str(tmp_path / "ImageSets/Segmentation/none.txt"), b"\n")
    voc = DataConfig(source="voc", root=str(tmp_path))
    with pytest.raises(UserError, match="found no image in the list 'none'"):
        list_images(voc, ImageSetConfig(split="none"))
    with pytest.raises(UserError, match="found no image in"):
        list_images(voc, ALL)


def test_a_glob_that_matches_nothing(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a.jpg"), b"x")
    for source, pattern in (("folder", "*.png"), ("tar", "*.tar"), ("parquet", "**/*.parquet")):
        data = DataConfig(source=source, root=f"{tmp_path}/{pattern}", classes=("cat",))
        with pytest.raises(UserError) as caught:
            list_images(data, ALL)
        assert facts(caught.value)[:2] == [f"'{source}'", f"'{tmp_path}/{pattern}'"]


def test_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image\n")
    data = DataConfig(source="table", table=str(tmp_path / "t.csv"), classes=("cat",))
    with pytest.raises(UserError, match=r"source 'table' found no image in '.*t.csv'; check data.table$"):
        list_images(data, ALL)


def test_share_and_part_come_before_the_limit(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image\n" + "".join(f"i{number}.jpg\n" for number in range(200)))

    def listed(limit: int | None = None, **fields: Any) -> list[str]:
        data = DataConfig(source="table", table=str(tmp_path / "t.csv"), classes=("cat",), **fields)
        return [item.image_id for item in list_images(data, ImageSetConfig(limit=limit))]

    parts = [listed(shard=f"{part}/3") for part in (1, 2, 3)]
    assert sorted(chain(*parts)) == sorted(listed())
    assert listed(limit=5, shard="2/3") == parts[1][:5]
    assert 0 < len(listed(sample=0.5)) < 200
    assert set(listed(sample=0.5, shard="2/3")) == set(listed(sample=0.5)) & set(parts[1])
    with pytest.raises(UserError, match=r"or take more by data.sample and data.shard"):
        listed(sample=1e-9)


@pytest.mark.parametrize("source", ["folder", "samples"])
def test_only_voc_has_splits(tmp_path: Path, source: str) -> None:
    data = DataConfig(source=source, root=str(tmp_path), classes=("cat",))
    with pytest.raises(UserError, match=rf"source '{source}' .* split 'train'"):
        list_images(data, ImageSetConfig(split="train"))


def test_samples_and_their_classes() -> None:
    data = DataConfig(source="samples")
    items = list(list_samples(data, Notes()))
    assert [(item.image_id, [data.class_list.name(key) for key in item.keys or ()]) for item in items] == [
        ("chelsea", ["cat"]),
        ("coffee", ["cup"]),
        ("motorcycle_left", ["motorbike"]),
        ("motorcycle_right", ["motorbike"]),
        ("rocket", ["rocket"]),
    ]
    for item in items:
        assert item.mask_uri is None
        assert item.reason is None
        assert decode_image(storage.fetch(item.uri), 1_000_000).shape[2] == 3


def test_samples_of_another_class_list() -> None:
    data = DataConfig(source="samples", classes=("cup", "cat"))
    assert [(item.image_id, item.keys) for item in list_samples(data, Notes())] == [("chelsea", (2,)), ("coffee", (1,))]


IDS = [f"image-{number}" for number in range(2000)]


def taken(**fields: object) -> set[str]:
    chosen = selection(DataConfig.model_validate({"source": "samples", **fields}))
    return {image_id for image_id in IDS if chosen(image_id)}


def test_everything_by_default() -> None:
    assert taken() == taken(sample=1.0) == taken(shard="1/1") == set(IDS)


@settings(max_examples=20, deadline=None)
@given(shards=st.integers(1, 40), sample=st.sampled_from([None, 0.3, 0.9]))
def test_shards_are_disjoint_and_complete(shards: int, sample: float | None) -> None:
    taken_by = [taken(shard=f"{shard}/{shards}", sample=sample) for shard in range(1, shards + 1)]
    assert sum(map(len, taken_by)) == len(set().union(*taken_by))
    assert set().union(*taken_by) == taken(sample=sample)


def test_shards_have_similar_sizes() -> None:
    for shard in range(1, 5):
        assert 430 < len(taken(shard=f"{shard}/4")) < 570


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_sample_takes_its_share(share: float) -> None:
    assert abs(len(taken(sample=share)) - share * len(IDS)) < 100


def test_a_larger_sample_holds_the_smaller() -> None:
    assert taken(sample=0.1) < taken(sample=0.2) < taken(sample=0.7)
    assert taken(sample=0.2, sample_seed=1) != taken(sample=0.2)


def test_the_choice_is_the_same_everywhere() -> None:
    chosen = selection(DataConfig(source="samples", sample=0.5, shard="2/3"))
    assert [number for number in range(30) if chosen(f"i{number}")] == [8, 11, 14, 16]
