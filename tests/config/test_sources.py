from typing import Any

import pytest
from pydantic import ValidationError

from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.config.sources import RegionSourceConfig
from pfit_ray.config.stages import RegionsConfig
from pfit_ray.errors import UserError


def config(**fields: Any) -> RunConfig:
    return validate({"output": "run", "data": {"source": "samples"}, **fields})


def test_the_published_sources_are_the_default() -> None:
    regions = RegionsConfig()
    assert regions.names == ("slic", "quickshift")
    assert all(source.merged for source in regions.sources)
    assert regions.options_of(regions.source("quickshift")) == regions.quickshift.model_dump()


def test_a_kind_alone_or_with_fields_any_number_of_them() -> None:
    sources = ["felzenszwalb", {"kind": "slic", "name": "fine", "uss": False, "options": {"n_segments": 5000}}, "slic"]
    regions = config(regions={"sources": sources, "slic": {"sigma": 0.0}}).regions
    assert regions.names == ("felzenszwalb", "fine", "slic")
    assert [source.merged for source in regions.sources] == [False, False, True]
    assert regions.options_of(regions.source("fine")) == {"n_segments": 5000, "compactness": 15.0, "sigma": 0.0}
    assert regions.options_of(regions.source("felzenszwalb")) == {"scale": 100.0, "sigma": 0.8, "min_size": 50}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["slic", {"kind": "slic", "uss": False}], "two sources have the name 'slic'; give one of them another name"),
        (["my-own"], "the name 'my-own' must be small letters, digits and '_', at most 32; set another name"),
        ([{"kind": "slic", "name": "../up"}], "the name '../up' must be"),
        ([{"kind": "external"}], "options.url: field required"),
        (
            [{"kind": "slic", "options": {"n_segments": 0}}],
            "options.n_segments: input should be greater than or equal to 1",
        ),
        ([{"kind": "features", "options": {"cuts": [8, 8]}}], "must be different numbers from 2"),
        ([{"kind": "features", "options": {"cuts": [1]}}], "must be different numbers from 2"),
        ([{"kind": "features", "options": {"levels": {5: 1}}}], "levels names level 5"),
        ([{"kind": "features", "options": {"levels": {}, "colour": 0}}], "all weights of colour and levels are 0"),
        ([{"kind": "features", "options": {"superpixels": ["slic", "slic"]}}], "superpixels"),
        ([{"kind": "features", "uss": True}], "merges superpixels itself"),
        ([{"kind": "slic", "segments": 3}], "unknown key 'regions.sources.0.segments'"),
        ([], "regions.sources"),
    ],
)
def test_mistakes(sources: list, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config(regions={"sources": sources})
    assert message in str(caught.value)


def test_sources_know_what_they_are_as_text_and_back() -> None:
    source = RegionSourceConfig(kind="external", name="sam", options={"url": "masks"})
    assert RegionSourceConfig.model_validate(source.model_dump(mode="json")) == source
    assert hash(source) == hash(RegionSourceConfig.model_validate(source.model_dump()))
    with pytest.raises(ValidationError):
        RegionSourceConfig.model_validate({})


def test_credentials_in_the_url_of_a_source_are_refused() -> None:
    sources = [{"kind": "external", "name": "sam", "options": {"url": "s3://key:secret@bucket/masks"}}]
    with pytest.raises(UserError, match="contains credentials"):
        config(regions={"sources": sources})


def test_the_mode_decides_what_takes_part() -> None:
    assert config().combine_mode == config(fidelity="reference").combine_mode == "fit"
    assert config(combine={"mode": "pool"}).region_names == ("slic", "quickshift")
    assert config(combine={"mode": "none"}).region_names == ()


def test_where_the_walk_is_pooled() -> None:
    assert config().pooled_regions == ("slic", "quickshift")
    assert config(pseudo_label={"pool": False}).pooled_regions == ()
    assert config(fidelity="reference").pooled_regions == config(combine={"mode": "none"}).pooled_regions == ()
    assert config(fidelity="reference", pseudo_label={"pool": True}).pooled_regions == ("slic", "quickshift")
    with pytest.raises(UserError, match=r"pseudo_label.pool needs regions, .* combine.mode none"):
        config(combine={"mode": "none"}, pseudo_label={"pool": True})


def test_the_published_masks_are_those_of_the_published_sources() -> None:
    with pytest.raises(UserError, match=r"region source 'felzenszwalb'.*fit.fidelity=lossless"):
        config(fidelity="reference", regions={"sources": ["slic", "felzenszwalb"]})
    with pytest.raises(UserError, match="region source 'slic'"):
        config(fit={"fidelity": "reference"}, regions={"sources": [{"kind": "slic", "uss": False}]})
    config(fidelity="reference", combine={"mode": "none"}, regions={"sources": ["felzenszwalb"]})


@pytest.mark.parametrize("network", ["affinitynet", "deeplab"])
def test_without_masks_no_training_goes_by_their_agreement(network: str) -> None:
    fields = {network: {"train": {"drop_worst": 0.1}}}
    assert config(**fields)
    with pytest.raises(UserError, match=f"{network}.train goes by the score mask_agreement"):
        config(combine={"mode": "none"}, **fields)
    assert config(combine={"mode": "none"}, **{network: {"train": {"drop_worst": 0.1, "score": "cam_margin"}}})


def test_a_cam_source_and_its_options() -> None:
    assert config(cam={"source": "external", "options": {"url": "maps"}}).cam.options == {"url": "maps"}
    for cam, message in (
        ({"source": "external"}, "options.url: field required"),
        ({"options": {"a": 1}}, "options do not apply to source 'classifier'"),
    ):
        with pytest.raises(UserError, match=message):
            config(cam=cam)


def test_features_have_a_name_for_each_cut_of_each_tree() -> None:
    options = {"cuts": [8, 32], "levels": {"1": 1, "3": 0.5}}
    regions = config(regions={"sources": ["slic", {"kind": "features", "name": "net", "options": options}]}).regions
    assert regions.names == ("slic", "net_slic_8", "net_slic_32", "net_quickshift_8", "net_quickshift_32")
    assert regions.source("net_slic_32") is regions.sources[1]
    assert regions.options_of(regions.sources[1])["slic"] == regions.slic.model_dump()


def test_features_need_the_run_s_own_classifier() -> None:
    with pytest.raises(UserError, match=r"region source 'features' .*cam.source=classifier"):
        config(regions={"sources": ["features"]}, cam={"source": "external", "options": {"url": "cams"}})
