"""The config of a run that only segments, with a trained network."""

import json
from collections.abc import Sequence
from typing import Any

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.load import load_config
from pfit_ray.data.sources.detect import detect
from pfit_ray.errors import UserError
from pfit_ray.nets.weights import load_state
from pfit_ray.rundir.directory import open_run
from pfit_ray.runner.starter import fitting_shard_size


def segmenter_fields(model: str) -> dict[str, Any]:
    """The config's fields that say which network segments, and how.

    Args:
        model: a run directory with a trained DeepLabv3+, or the .safetensors or .onnx file of one.

    Raises:
        UserError: when it is neither, or does not tell its classes.
    """
    if storage.exists(storage.join(storage.absolute(model), "config.yaml")):
        run, config = open_run(model)
        weights = run.weights("deeplab")
        if not storage.exists(weights):
            raise UserError(f"{model}: this run has no DeepLabv3+ yet; finish it, or name the file of a network")
        named = {
            "fidelity": config.fidelity,
            "crf_engine": config.crf_engine,
            "network_engine": config.network_engine,
            "predict": config.predict.model_dump(mode="json"),
            "storage": config.storage.model_dump(mode="json"),
        }
        return {**_network(weights, config.deeplab.backbone.name, list(config.data.class_list.names)), **named}
    try:
        _, metadata = load_state(storage.read_bytes(model))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{model}: there is no run directory and no weight file") from error
    except ValueError as error:
        raise UserError(f"{model}: {error}") from error
    if metadata.get("network") != "DeepLabV3Plus" or "classes" not in metadata:
        what = metadata.get("network") or "no network of this package"
        raise UserError(f"{model} holds {what}; name a trained DeepLabv3+ with class names")
    return _network(storage.absolute(model), metadata["backbone"], json.loads(metadata["classes"]))


def segmenter_config(model: str, images: str, output: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a run that segments images with a trained network.

    Args:
        model: see `segmenter_fields`.
        images: folder, URL prefix or glob of images, or a folder of tar or Parquet files.
        output: the run directory.
        overrides: `key=value` strings, see `load_config`.

    Raises:
        UserError: when there is no such network, or no image.
    """
    fields = segmenter_fields(model)
    source, count = "folder", 0
    if storage.exists(storage.absolute(images)):
        found = detect(images)
        source, count = (found.source if found.source in ("tar", "parquet") else "folder"), found.images
    labels = {"label_column": "", "mask_column": ""} if source == "parquet" else {}
    data = {"source": source, "root": images, "classes": fields.pop("classes"), **labels}
    size = fitting_shard_size(count) if count else 16  # a glob is not counted
    document = {"output": output, "passes": ["predict"], "shard_size": size, "data": data, **fields}
    return load_config("predict", overrides, read=lambda _: json.dumps(document).encode())


def _network(weights: str, backbone: str, classes: list[str]) -> dict[str, Any]:
    network = {"source": "weights", "weights": weights, "backbone": {"name": backbone, "weights": "none"}}
    return {"classes": classes, "deeplab": network}
