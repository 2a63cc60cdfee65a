import json
import platform
from importlib.metadata import version

import numpy as np

from pfit_ray.config.load import validate
from pfit_ray.environment import describe_environment


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
    assert (found["seed"], found["uss_seed"]) == (7, 5)
    assert found["fidelity"] == {
        "cam": "reference",
        "regions": "reference",
        "fit": "lossless",
        "walk": "reference",
        "predict": "reference",
    }
    assert found["jpeg_library"]
    assert json.loads(json.dumps(found)) == found


def test_packages_that_are_not_installed_are_left_out(monkeypatch) -> None:
    monkeypatch.setattr("pfit_ray.environment.PACKAGES", ("numpy", "no-such-package-at-all"))
    config = validate({"output": "run", "data": {"source": "samples"}})
    assert describe_environment(config)["packages"] == {"numpy": np.__version__}
