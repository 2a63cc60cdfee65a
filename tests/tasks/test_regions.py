import numpy as np
import pytest

from pfit_ray.config.stages import RegionsConfig
from pfit_ray.constants import PUBLISHED_SOURCES
from pfit_ray.ops.regions import uss
from pfit_ray.ops.regions.uss_vote import Regions, UssOptions
from pfit_ray.tasks import regions
from pfit_ray.tasks.regions import RegionsStage

HALVES = np.zeros((24, 30, 3), dtype=np.uint8)
HALVES[:, :12] = (200, 30, 10)
HALVES[:, 12:] = (10, 60, 220)


@pytest.mark.parametrize("source", PUBLISHED_SOURCES)
def test_two_colours_are_two_regions(source: str) -> None:
    config = RegionsConfig.model_validate({"slic": {"n_segments": 12}, "uss": {"min_labels": 3}})
    stage = RegionsStage(source, config, reference=False)
    assert stage.name == f"regions_{source}"
    row = {"image_id": "a", "image": HALVES}
    stage.process(row)
    labels = row[f"regions_{source}"]
    assert labels.dtype == np.uint8
    assert labels.shape == (24, 30)
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert not set(np.unique(labels[:, :8])) & set(np.unique(labels[:, 16:]))


@pytest.mark.parametrize("source", PUBLISHED_SOURCES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2)])
def test_tiny_images(source: str, shape: tuple[int, int]) -> None:
    row = {"image_id": "a", "image": np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)}
    RegionsStage(source, RegionsConfig(), reference=False).process(row)
    assert row[f"regions_{source}"].shape == shape


@pytest.mark.parametrize("source", PUBLISHED_SOURCES)
def test_the_fused_network_finds_the_same_regions(source: str) -> None:
    found = []
    for fused in (False, True):
        uss = {"fused": fused, "min_labels": 3, "max_iterations": 4}
        config = RegionsConfig.model_validate({"slic": {"n_segments": 12}, "uss": uss})
        row = {"image_id": "a", "image": HALVES}
        RegionsStage(source, config, reference=False).process(row)
        found.append(row[f"regions_{source}"])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("fused", "reference", "taken"), [(True, False, "fused"), (True, True, "torch")])
def test_reference_runs_in_torch(fused: bool, reference: bool, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def result(name: str) -> Regions:
        called.append(name)
        return Regions(np.zeros(HALVES.shape[:2], np.uint8), np.zeros(1, np.int64), (1,))

    called: list[str] = []
    monkeypatch.setattr(uss, "segment_unsupervised", lambda *_, **__: result("torch"))
    monkeypatch.setattr(regions, "segment_unsupervised_fused", lambda *_, **__: result("fused"))
    config = RegionsConfig.model_validate({"uss": {"fused": fused}})
    RegionsStage("slic", config, reference).process({"image_id": "a", "image": HALVES})
    assert called == [taken]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What the CNN was given; its result is one region per column."""
    noted: list[dict] = []

    def segment(image: np.ndarray, superpixels: np.ndarray, options: UssOptions, **others: object) -> Regions:
        noted.append({"image_id": "a", "image": image, "superpixels": superpixels, "options": options, **others})
        labels = np.tile(np.arange(image.shape[1], dtype=np.uint8), (image.shape[0], 1))
        return Regions(labels, np.arange(image.shape[1]), (image.shape[1],))

    monkeypatch.setattr(uss, "segment_unsupervised", segment)
    monkeypatch.setattr(regions, "segment_unsupervised_fused", segment)
    return noted


def test_reference_sees_bgr_and_takes_two_threads(calls: list[dict]) -> None:
    for reference in (False, True):
        RegionsStage("slic", RegionsConfig(), reference).process({"image_id": "a", "image": HALVES})
    np.testing.assert_array_equal(calls[0]["image"], HALVES)
    np.testing.assert_array_equal(calls[1]["image"], HALVES[:, :, ::-1])
    assert [call.get("threads") for call in calls] == [None, 2]
    assert calls[0]["options"] == UssOptions(seed=43, min_labels=20, learning_rate=0.05)


def test_reference_never_shrinks(calls: list[dict]) -> None:
    config = RegionsConfig.model_validate({"uss": {"max_side": 32}})
    row = {"image_id": "a", "image": np.zeros((3, 80, 3), dtype=np.uint8)}
    RegionsStage("slic", config, reference=True).process(row)
    assert calls[0]["image"].shape == (3, 80, 3)
    assert row["regions_slic"].shape == (3, 80)


def test_large_images_are_segmented_small_and_scaled_back(calls: list[dict]) -> None:
    row = {"image_id": "a", "image": np.zeros((3, 80, 3), dtype=np.uint8)}
    config = RegionsConfig.model_validate({"uss": {"max_side": 40}})
    RegionsStage("quickshift", config, reference=False).process(row)
    assert calls[0]["image"].shape == (2, 40, 3)
    assert calls[0]["superpixels"].shape == (2, 40)
    assert row["regions_quickshift"].dtype == np.uint8
    np.testing.assert_array_equal(row["regions_quickshift"], np.tile(np.repeat(np.arange(40), 2), (3, 1)))
