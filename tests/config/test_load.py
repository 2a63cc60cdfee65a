from pathlib import Path

import pytest
import yaml
from support.places import REPOSITORY

from pfit_ray.config import RunConfig, load_config, resolved_yaml
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError

SHIPPED = sorted((REPOSITORY / "configs").glob("*.yaml"))


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def plain(tmp_path: Path) -> str:
    return written(tmp_path, "output: runs/mine\ndata: {source: samples}\nwalk:\n")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    config = load_config(str(path))
    assert config.output == f"runs/{path.stem}"


def test_shipped_configs_are_all_there() -> None:
    assert [path.stem for path in SHIPPED] == ["coco2014", "corpus", "quickstart", "voc2012"]


def test_resolved_yaml_is_complete_and_gives_the_same_run(tmp_path: Path) -> None:
    config = load_config(
        str(SHIPPED[2]), ["data.classes=[Kätzchen, cup, motorbike, rocket]", "classifier.source=train"]
    )
    text = resolved_yaml(config)
    assert yaml.safe_load(text)["regions"]["uss"]["seed"] == 43
    assert "Kätzchen" in text
    assert load_config(written(tmp_path, text)) == config


def test_overrides_are_yaml_and_make_missing_sections(tmp_path: Path) -> None:
    url = written(tmp_path, "output: runs/mine\ndata: {source: samples}\ncam: {flip: false}\nregions:\n")
    config = load_config(
        url,
        ["cam.scales=[1, 2]", "walk.beta=5", "regions.uss.seed=7", "output=s3://b/x=y", "data.train.limit=3",
         "cam.max_side=null"],
    )  # fmt: skip
    assert (config.cam.scales, config.cam.flip, config.cam.max_side) == ((1.0, 2.0), False, None)
    assert (config.walk.beta, config.regions.uss.seed) == (5.0, 7)
    assert (config.output, config.data.train.limit) == ("s3://b/x=y", 3)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("cam.flip", "config: override 'cam.flip' must have the form key=value, such as cam.flip=false"),
        ("=3", "config: override '=3' must have the form key=value, such as cam.flip=false"),
        ("seed=[1", "config: the value of override 'seed=[1' is not valid YAML"),
        ("seed.x.y=1", "config: override 'seed.x.y=1' goes below 'seed', which is a value; set 'seed' itself"),
        ("cam.flipp=true", "config: unknown key 'cam.flipp' (did you mean 'cam.flip'?)"),
    ],
)
def test_wrong_overrides(plain: str, override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(plain, ["seed=1", "walk={}", override])
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"outptu": 1}, "unknown key 'outptu' (did you mean 'output'?)"),
        ({"beta": 3}, "unknown key 'beta' (did you mean 'walk.beta'?)"),
        ({"data": {"source": "samples", "train": {"limitt": 1}}},
         "unknown key 'data.train.limitt' (did you mean 'data.train.limit'?)"),
        ({"data": {"source": "samples", "predict": {"splitt": "a"}}},
         "unknown key 'data.predict.splitt' (did you mean 'data.predict.split'?)"),
        ({"zzzzzz": 1}, "unknown key 'zzzzzz'"),
        ({"walk": {"qqqq": {"deep": 1}}}, "unknown key 'walk.qqqq'"),
        ({"data": {"source": "zip"}},
         "'data.source' is 'zip'; it should be 'voc', 'coco', 'folder', 'class_folders', 'cvat', 'labelme', 'table', "
         "'tar', 'parquet' or 'samples'"),
        ({"data": {"source": "voc"}}, "data: source 'voc' needs data.root, the folder or URL of the images"),
        ({"cam": {"scales": 2}}, "'cam.scales' is 2; it should be a list"),
        ({"cam": {"scales": []}}, "'cam.scales' is []; it should have at least 1 item"),
        ({"cam": {"scales": [1, 0]}}, "'cam.scales.1' is 0; it should be greater than 0"),
        ({"cam": {"flip": "perhaps"}}, "'cam.flip' is 'perhaps'; it should be a valid boolean"),
        ({"seed": "x"}, "'seed' is 'x'; it should be a valid integer"),
        ({"output": ""}, "'output' is ''; it should have at least 1 character"),
        ({"passes": ["all"]}, "'passes.0' is 'all'; it should be 'seeds', 'labels' or 'predict'"),
        ({"walk": 3}, "'walk' is 3; it should be a mapping of fields"),
        ({"walk": {"beta": float("inf")}}, "'walk.beta' is inf; it should be a finite number"),
        ({"deeplab": {"train": {"crop": 100}}}, "'deeplab.train.crop' is 100; it should be a multiple of 16"),
        ({"affinity_label": {"bg_threshold": 0.9}},
         "affinity_label: bg_threshold 0.9 is above fg_threshold 0.6; it must not be larger "
         "(null uses that of combine.mode fit)"),
        ({"combine": {"rounds": 2}},
         "combine: rounds is 2, but mode fit does not pool: choose pool or pool_fit"),
        ({"classifier": {"source": "zero_shot", "zero_shot": {"dog": [1]}}},
         "classifier.zero_shot names class 'dog', which data.classes does not list"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_with_field_value_and_what_is_allowed(fields: dict, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        validate({"output": "runs/mine", "data": {"source": "samples"}, **fields})
    assert str(caught.value) == f"config: {sentence}"


def test_missing_field() -> None:
    with pytest.raises(UserError, match="config: 'data' is required but missing"):
        validate({"output": "runs/mine"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output: [", r"run.yaml is not valid YAML: while parsing a flow node .*line 1, column 10"),
        ("- a\n- b\n", r"run.yaml must hold a mapping of fields, such as 'output: runs/mine'"),
        ("", r"run.yaml must hold a mapping of fields"),
        ("!!python/object/apply:os.system [echo]", "is not valid YAML: could not determine a constructor"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config: there is no file '.*absent.yaml'"):
        load_config(str(tmp_path / "absent.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"output: caf\xe9\n")
    with pytest.raises(UserError, match=r"latin.yaml is not valid YAML"):
        load_config(str(tmp_path / "latin.yaml"))
    with pytest.raises(UserError, match="cannot be read"):
        load_config(str(tmp_path))
    with pytest.raises(UserError, match="cannot be read"):
        load_config("nosuch://bucket/run.yaml")


def test_config_from_a_url(tmp_path: Path) -> None:
    url = written(tmp_path, "output: runs/mine\ndata: {source: samples}\n")
    assert isinstance(load_config(f"file://{url}"), RunConfig)
