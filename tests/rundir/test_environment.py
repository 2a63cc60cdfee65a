import json
import platform
from importlib.metadata import version

import numpy as np
import pytest

from pfit_ray.config.load import validate
from pfit_ray.errors import UserError
from pfit_ray.rundir import environment
from pfit_ray.rundir.environment import check_packages, describe_environment


def test_versions_seeds_and_fidelities() -> None:
    config = validate(
        {
            "output": "run",
            "data": {"source": "samples"},
            "seed": 7,
            "fidelity": "reference",
            "fit": {"fidelity": "lossless"},
            "regions": {"uss": {"seed": 5}},
        }
    )
    found = describe_environment(config)
    assert found["python"] == platform.python_version()
    assert found["packages"]["numpy"] == np.__version__
    assert found["packages"]["pfit-ray"] == version("pfit-ray")
    assert (found["seed"], found["uss_seed"], found["crf_engine"]) == (7, 5, "pydensecrf")
    assert found["fidelity"] == {
        "cam": "reference",
        "regions": "reference",
        "fit": "lossless",
        "walk": "reference",
        "predict": "reference",
    }
    assert found["network_engine"] == {"seeds": "torch", "labels": "torch", "predict": "torch"}
    assert found["jpeg_library"]
    assert json.loads(json.dumps(found)) == found


def test_packages_that_are_not_installed_are_left_out(monkeypatch) -> None:
    monkeypatch.setattr("pfit_ray.rundir.environment.PACKAGES", ("numpy", "no-such-package-at-all"))
    config = validate({"output": "run", "data": {"source": "samples"}})
    assert describe_environment(config)["packages"] == {"numpy": np.__version__}


@pytest.mark.parametrize(
    ("fields", "named"), [({"crf_engine": "pydensecrf"}, "'crf_engine'"), ({"fidelity": "reference"}, "'fidelity'")]
)
def test_a_missing_engine_is_said_before_any_work(
    fields: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {"output": "run", "data": {"source": "samples"}}
    check_packages(validate(base | fields))
    monkeypatch.setattr(environment.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"config: {named} is .* pip install \"pfit-ray\[pydensecrf\]\""):
        check_packages(validate(base | fields))
    check_packages(validate(base))
    check_packages(validate(base | {"fidelity": "reference", "crf_engine": "native"}))
    with pytest.raises(
        UserError, match=r"config: 'network_engine' is onnxruntime, and onnx and onnxruntime cannot be f"
    ):
        check_packages(validate(base | {"network_engine": "onnxruntime"}))
    asked = {"network_engine": "onnxruntime", "fidelity": "reference", "crf_engine": "native"}
    check_packages(validate(base | asked))
