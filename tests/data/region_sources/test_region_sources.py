from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pfit_ray.config.sources import RegionSourceConfig
from pfit_ray.config.stages import RegionsConfig
from pfit_ray.data import region_sources
from pfit_ray.data.images import encode_grey
from pfit_ray.data.region_sources import RegionSource, make_region_source
from pfit_ray.errors import RowError, UserError
from pfit_ray.ops.superpixels.superpixels import quickshift_superpixels, slic_superpixels

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
HALVES = np.zeros((24, 30, 3), dtype=np.uint8)
HALVES[:, :12] = (200, 30, 10)
HALVES[:, 12:] = (10, 60, 220)


def made(kind: str, **options: Any) -> RegionSource:
    return make_region_source(RegionsConfig(), RegionSourceConfig(kind=kind, options=options))


def test_numbers_come_from_the_kind_and_then_from_the_source() -> None:
    config = RegionsConfig.model_validate({"slic": {"n_segments": 9, "sigma": 0.0}})
    source = make_region_source(config, RegionSourceConfig(kind="slic", options={"n_segments": 4}))
    np.testing.assert_array_equal(source.regions(PHOTO, "a"), slic_superpixels(PHOTO, n_segments=4, sigma=0.0))
    np.testing.assert_array_equal(made("quickshift", seed=3).regions(PHOTO, "a"), quickshift_superpixels(PHOTO, seed=3))


def test_felzenszwalb_finds_two_halves() -> None:
    labels = made("felzenszwalb", sigma=0.0).regions(HALVES, "a")
    assert len(set(labels[:, :12].ravel())) == len(set(labels[:, 12:].ravel())) == 1
    assert labels[0, 0] != labels[0, 29]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (5, 1)])
@pytest.mark.parametrize("kind", ["slic", "quickshift", "felzenszwalb"])
def test_tiny_images(kind: str, shape: tuple[int, int]) -> None:
    labels = made(kind).regions(PHOTO[: shape[0], : shape[1]], "a")
    assert labels.shape == shape
    assert labels.min() >= 0


def test_an_unknown_kind() -> None:
    with pytest.raises(UserError, match=r"regions.sources kind is 'waves', which is none of external, features, felz"):
        made("waves")


def test_a_class_that_is_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(region_sources.BUILTIN, "odd", dict)
    with pytest.raises(UserError, match="'odd' is dict"):
        made("odd")


def test_a_source_that_does_not_take_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(RegionSource):
        def regions(self, image: np.ndarray, image_id: str) -> np.ndarray:
            return np.zeros(image.shape[:2], np.uint8)

    monkeypatch.setitem(region_sources.BUILTIN, "plain", Plain)
    with pytest.raises(UserError, match=r"source 'plain' of kind 'plain' does not take its options {'width': 3}"):
        made("plain", width=3)


def test_label_maps_from_files(tmp_path: Path) -> None:
    labels = np.arange(600, dtype=np.uint16).reshape(20, 30)
    (tmp_path / "a.png").write_bytes(encode_grey(labels))
    (tmp_path / "small.png").write_bytes(encode_grey(labels[:5]))
    (tmp_path / "broken.png").write_bytes(b"nonsense")
    Image.fromarray(PHOTO).save(tmp_path / "colour.png")
    source = made("external", url=str(tmp_path))
    np.testing.assert_array_equal(source.regions(PHOTO, "a"), labels)
    for image_id, message in (
        ("small", "the map of regions has 30 x 5 pixels, its image has 30 x 20"),
        ("broken", "the map of regions is not a PNG file"),
        ("colour", "region ids are needed"),
    ):
        with pytest.raises(RowError, match=message) as caught:
            source.regions(PHOTO, image_id)
        assert caught.value.reason == "bad_regions"
    with pytest.raises(RowError) as caught:
        source.regions(PHOTO, "none")
    assert caught.value.reason == "missing"


def test_label_maps_from_a_table(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), dtype=np.uint8)
    labels[:, 9:] = 255
    cells = [encode_grey(labels), None]
    pd.DataFrame({"name": ["a", "b"], "mask": cells}).to_parquet(tmp_path / "masks.parquet")
    source = made("external", url=str(tmp_path / "masks.parquet"), column="mask", id_column="name")
    source.setup()
    np.testing.assert_array_equal(source.regions(PHOTO, "a"), labels)
    with pytest.raises(RowError, match="holds no bytes of a PNG for image 'b'"):
        source.regions(PHOTO, "b")
