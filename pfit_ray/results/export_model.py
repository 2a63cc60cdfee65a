"""Export a trained network of a run as an ONNX file that says what it is."""

import json
from importlib.metadata import version
from typing import Literal

from pfit_ray import storage
from pfit_ray.errors import UserError
from pfit_ray.nets.networks import load_network
from pfit_ray.nets.onnx_file import onnx_file
from pfit_ray.nets.weights import load_state
from pfit_ray.results.export.card import method_document
from pfit_ray.rundir.directory import open_run
from pfit_ray.rundir.provenance import weights_digests

NETWORK_STRIDE = 16
"""Predictions pad images to a multiple of it, except with fidelity `reference`."""


def export_model(model: str, output: str, network: Literal["deeplab", "classifier"] = "deeplab") -> str:
    """Write a trained network as ONNX, see `pfit_ray.nets.onnx_file.onnx_file`.

    Its metadata have `classes` (JSON, names in the order of their ids from 1) and, of a run, `trained_from` (JSON:
    where the weights come from, their sha256, the number of images, the numbers of the method; no paths or URLs).

    Args:
        model: a run directory, or the .safetensors file of a network.
        output: the file, a path or a URL.
        network: which network of a run.

    Returns:
        The file's URL.

    Raises:
        UserError: when there is no such network, or the extra `onnx` is missing.
    """
    weights, stride, told = storage.absolute(model), NETWORK_STRIDE, {"pfit_ray": version("pfit-ray")}
    if storage.exists(storage.join(weights, "config.yaml")):
        run, config = open_run(model)
        weights = run.weights(network)
        if not storage.exists(weights):
            raise UserError(f"export-model: {model} has no {network} yet; finish its run first")
        stride = 1 if config.fidelity_of("predict") == "reference" else NETWORK_STRIDE
        images = (run.read_json("manifest", "train.json") or {}).get("images")
        trained_from = {
            "source": getattr(config, network).source,
            "weights_sha256": weights_digests(run).get(network),
            "images": images,
            "method": method_document(config),
        }
        told["trained_from"] = json.dumps(trained_from)
        told["classes"] = json.dumps(config.data.class_list.names)
    elif not storage.exists(weights):
        raise UserError(f"export-model: {model}: there is no run directory and no weight file")
    loaded = load_network(weights)
    if "classes" not in told:
        told["classes"] = load_state(storage.read_bytes(weights))[1].get("classes", "[]")
    url = storage.absolute(output)
    storage.write_bytes(url, onnx_file(loaded, told, stride))
    return url
