import logging
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from support.old_run import FORMAT_0

from pfit_ray.config import RunConfig, load_config
from pfit_ray.config.load import FORMAT, validate
from pfit_ray.config.stored import BEFORE, is_field, load_stored, stored_yaml, value_before
from pfit_ray.errors import UserError
from pfit_ray.runner.fingerprint import STEP_FIELDS

SINCE_FORMAT_0 = {
    *("data.annotations", "data.draw_masks", "data.label_column", "data.mask_column", "deeplab.freeze_backbone"),
    *(
        f"{network}.train.{name}"
        for network in ("classifier", "affinitynet", "deeplab")
        for name in ("views", "sample", "sample_by", "sample_balance")
    ),
}
"""Fields that have come since the fixture, and whose default computes what was computed before."""


def config(**fields: Any) -> RunConfig:
    return validate({"output": "run", "data": {"source": "samples"}, **fields})


def stored(document: dict[str, Any]) -> Callable[[str], bytes]:
    return lambda url: yaml.safe_dump(document).encode()


def test_what_is_stored_is_loaded_again_by_both_ways() -> None:
    given = config(cam={"scales": [1.0]}, regions={"sources": ["slic", {"kind": "own", "options": {"a": [1]}}]})
    data = stored_yaml(given)
    assert yaml.safe_load(data)["format"] == FORMAT
    assert load_stored("config.yaml", lambda url: data) == given
    assert load_config("config.yaml", ["walk.beta=5"], lambda url: data).walk.beta == 5.0


def test_the_newest_format_is_that_of_the_newest_field() -> None:
    assert max(since for since, _ in BEFORE.values()) == FORMAT


@pytest.mark.parametrize("name", BEFORE)
def test_an_absent_field_is_what_was_computed_before_it_was_there(name: str) -> None:
    since, value = BEFORE[name]
    *parents, leaf = name.split(".")

    def loaded(written: int) -> Any:
        document = {**config().model_dump(mode="json"), "format": written}
        section = document
        for part in parents:
            section = section[part]
        del section[leaf]
        found: Any = load_stored("config.yaml", stored(document))
        for part in name.split("."):
            found = getattr(found, part)
        return found

    assert loaded(since - 1) == value
    assert loaded(since) != value


def test_a_config_without_a_format_is_the_oldest() -> None:
    found = load_stored("config.yaml", stored({"output": "run", "data": {"source": "samples"}}))
    assert (found.pseudo_label.pool, found.regions.uss.fused, found.crf_engine) == (False, False, "pydensecrf")
    assert found.network_engine == "torch"
    assert found.walk.beta == 10.0


def test_fields_that_nobody_knows_any_more_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    document = config().model_dump(mode="json") | {"format": FORMAT + 1, "moon": {"phase": 1}}
    document["walk"]["wings"] = 2
    document["regions"]["sources"][1]["colour"] = "red"
    with caplog.at_level(logging.WARNING):
        assert load_stored("config.yaml", stored(document)) == config()
    (record,) = caplog.records
    assert record.getMessage().endswith("leaves out: moon, regions.sources.1.colour, walk.wings")


def test_a_value_that_means_nothing_is_one_sentence() -> None:
    document = {"format": FORMAT + 1, "output": "run", "data": {"source": "samples"}, "combine": {"mode": "mix"}}
    with pytest.raises(UserError, match=r"a newer version has written it.*'combine.mode' is 'mix'"):
        load_stored("config.yaml", stored(document))
    with pytest.raises(UserError, match=r"was written by a newer version of pfit_ray"):
        load_config("config.yaml", read=stored(document))
    with pytest.raises(UserError, match=r"'format' of config.yaml is not a whole number"):
        load_config("config.yaml", read=stored({**document, "format": "x"}))


def test_what_is_refused_today_does_not_close_an_old_run() -> None:
    cam = {"source": "own", "options": {"api_key": "sesame", "url": "https://sesame@host/", "size": 3}}
    data = {"source": "folder", "root": "photos", "classes": ["cat"]}
    found = load_stored("config.yaml", stored({"output": "photos/run", "data": data, "cam": cam}))
    assert found.cam.options == {"url": "https://***@host/", "size": 3}


def test_names_of_fields() -> None:
    assert is_field("data.predict.limit")
    assert is_field("classifier.zero_shot.cat")
    assert is_field("cam.options.url")
    assert not is_field("walk.wings")
    assert not is_field("wings")
    assert value_before("data.predict.limit") is None
    assert value_before("deeplab.train.epochs") == 50
    assert value_before("classifier.zero_shot.cat") is None
    assert value_before("output") is None


def test_every_new_field_says_what_it_was_before() -> None:
    """A new field: is its default what was computed before? Then into SINCE_FORMAT_0, else into BEFORE of `stored`."""

    def names(value: Any, prefix: str) -> set[str]:
        if not isinstance(value, dict):
            return {prefix}
        return {name for key, child in value.items() for name in names(child, f"{prefix}.{key}".lstrip("."))}

    sections = {name.partition(".")[0] for fields in STEP_FIELDS.values() for name in fields}
    old = names(yaml.safe_load((FORMAT_0 / "run" / "config.yaml").read_text()), "")
    now = names(config(data={"source": "folder", "root": "a", "classes": ["a"]}).model_dump(mode="json"), "")
    new = {name for name in now - old if name.partition(".")[0] in sections}
    assert new - {"classifier.zero_shot"} == SINCE_FORMAT_0 | {name for name in BEFORE if name not in old}
