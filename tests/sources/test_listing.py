from pathlib import Path

import pytest

from pfit_ray import storage
from pfit_ray.config.data import DataConfig, ImageSetConfig
from pfit_ray.errors import UserError
from pfit_ray.sources import Item, list_images

ALL = ImageSetConfig()


def test_each_source(tmp_path: Path, voc_animals: Path) -> None:
    storage.write_bytes(str(tmp_path / "a.jpg"), b"x")
    folder = DataConfig(source="folder", root=str(tmp_path), classes=("cat",))
    assert list(list_images(folder, ALL)) == [Item("a", f"{tmp_path}/a.jpg")]
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


@pytest.mark.parametrize("source", ["folder", "samples"])
def test_only_voc_has_splits(tmp_path: Path, source: str) -> None:
    data = DataConfig(source=source, root=str(tmp_path), classes=("cat",))
    with pytest.raises(UserError, match=rf"source '{source}' has no lists, so split 'train' means nothing"):
        list_images(data, ImageSetConfig(split="train"))
