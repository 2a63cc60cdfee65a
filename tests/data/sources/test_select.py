import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfit_ray.config.data import DataConfig
from pfit_ray.data.sources.select import selection

IDS = [f"image-{number}" for number in range(2000)]


def taken(**fields: object) -> set[str]:
    chosen = selection(DataConfig.model_validate({"source": "samples", **fields}))
    return {image_id for image_id in IDS if chosen(image_id)}


def test_everything_by_default() -> None:
    assert taken() == taken(sample=1.0) == taken(shard="1/1") == set(IDS)


@settings(max_examples=20, deadline=None)
@given(parts=st.integers(1, 40), sample=st.sampled_from([None, 0.3, 0.9]))
def test_parts_are_disjoint_and_complete(parts: int, sample: float | None) -> None:
    pieces = [taken(shard=f"{part}/{parts}", sample=sample) for part in range(1, parts + 1)]
    assert sum(map(len, pieces)) == len(set().union(*pieces))
    assert set().union(*pieces) == taken(sample=sample)


def test_parts_have_similar_sizes() -> None:
    for part in range(1, 5):
        assert 430 < len(taken(shard=f"{part}/4")) < 570


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.99])
def test_sample_takes_its_share(share: float) -> None:
    assert abs(len(taken(sample=share)) - share * len(IDS)) < 100


def test_a_larger_sample_holds_the_smaller() -> None:
    assert taken(sample=0.1) < taken(sample=0.2) < taken(sample=0.7)
    assert taken(sample=0.2, sample_seed=1) != taken(sample=0.2)


def test_the_choice_is_the_same_everywhere() -> None:
    chosen = selection(DataConfig(source="samples", sample=0.5, shard="2/3"))
    assert [number for number in range(30) if chosen(f"i{number}")] == [8, 11, 14, 16]
