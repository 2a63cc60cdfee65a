from dataclasses import replace
from pathlib import Path

import pytest
from support.sentences import facts

from pfit_ray.cluster import preflight
from pfit_ray.cluster.preflight import COMPARED, Answer, check_nodes, judge
from pfit_ray.config.load import validate
from pfit_ray.errors import UserError

MINE = {name: "1.0" for name in COMPARED}
URLS = {"/run/nodes.probe": "output", "/photographs": "data.root"}
GOOD = Answer(MINE, ())


def test_a_node_like_this_one() -> None:
    judge("10.0.0.2", GOOD, MINE, URLS, "/run")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            replace(GOOD, versions=MINE | {"torch": "2.0"}),
            ["10.0.0.2", "2.0", "1.0"],
        ),
        (
            replace(GOOD, versions={name: version for name, version in MINE.items() if name != "pfit-ray"}),
            ["10.0.0.2", "1.0"],
        ),
        (
            replace(GOOD, missing=("/run/nodes.probe",)),
            ["/run", "10.0.0.2", "s3://"],
        ),
        (
            replace(GOOD, missing=("/photographs",)),
            ["data.root", "/photographs", "10.0.0.2", "s3://"],
        ),
    ],
)
def test_a_node_that_differs(answer: Answer, told: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        judge("10.0.0.2", answer, MINE, URLS, "/run")
    assert facts(caught.value) == told


def test_packages_of_the_network_engine_are_compared_where_it_is_used() -> None:
    mine = MINE | {"onnxruntime": "1.0"}
    with pytest.raises(UserError, match=r"^node 10.0.0.2 has onnxruntime None .* 1\.0;"):
        judge("10.0.0.2", GOOD, mine, URLS, "/run")
    judge("10.0.0.2", replace(GOOD, versions=mine), MINE, URLS, "/run")


@pytest.mark.parametrize(
    ("fields", "on_gpus", "packages"),
    [
        ({"network_engine": "onnxruntime"}, False, (*COMPARED, "onnx", "onnxruntime")),
        ({"network_engine": "onnxruntime"}, True, COMPARED),
        ({"network_engine": "onnxruntime", "fidelity": "reference"}, False, COMPARED),
        ({"network_engine": "channels_last"}, False, COMPARED),
    ],
)
def test_what_nodes_are_asked(
    fields: dict[str, str], on_gpus: bool, packages: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    nodes = [{"NodeID": name, "NodeManagerAddress": name, "Alive": True} for name in ("one", "two")]
    monkeypatch.setattr(preflight.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(preflight, "_ask", lambda alive, urls, names: asked.append(tuple(names)) or {})
    check_nodes(validate({"output": "run", "data": {"source": "samples"}, **fields}), str(tmp_path), on_gpus)
    assert asked == [packages]


def test_one_node_alone_is_not_asked(local_ray: None) -> None:
    check_nodes(validate({"output": "run", "data": {"source": "samples"}}), "/nowhere/run")
