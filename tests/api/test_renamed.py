import subprocess
import sys

import pytest

from pfit_ray.api.renamed import PLACES


@pytest.mark.parametrize(("public", "place"), PLACES.items())
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["public first", "place first"])
def test_both_names_give_the_same_module(public: str, place: str, order: tuple[int, int]) -> None:
    first, second = (f"import {(public, place)[number]}" for number in order)
    code = f"import sys; {first}; {second}; assert sys.modules[{public!r}] is sys.modules[{place!r}]"
    code += f"; from {public} import __name__ as name; assert name == {place!r}; assert {public} is {place}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_names_are_still_missing() -> None:
    code = "import pfit_ray.no_such_module"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "ModuleNotFoundError: No module named 'pfit_ray.no_such_module'" in done.stderr
