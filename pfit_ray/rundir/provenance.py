"""What a score was computed with: fidelity, weights, split, thresholds and versions."""

import hashlib
from typing import Any

from pfit_ray import storage
from pfit_ray.config import RunConfig
from pfit_ray.config.stages import LabelCrfConfig, SoftmaxCrfConfig
from pfit_ray.rundir.directory import NETWORKS, Network, RunDirectory
from pfit_ray.rundir.review import used_marks_url
from pfit_ray.storage.cache import weights_file

TOLD_PACKAGES = ("torch", "scikit-image", "opencv-python-headless", "opencv-python", "pillow", "pydensecrf2")
"""Packages whose version is known to move scores; the JPEG library is named too."""

_SEED_STAGES = ("cam", "regions", "fit")
_SHORT_DIGEST = 12


def record_weights(run: RunDirectory, config: RunConfig, network: Network) -> None:
    """Record the sha256 of a network's weights, of the file they were taken from, and of the marks that it used."""
    section = getattr(config, network)
    record = {"sha256": _digest(run.weights(network)), "source": section.source}
    if section.source == "weights":
        record |= {"from": section.weights, "from_sha256": _digest(weights_file(section.weights)[0])}
    if section.source == "train" and section.train.review:
        record |= {"review": section.train.review, "marks_sha256": _digest(used_marks_url(run, network))}
    run.write_json(record, "checkpoints", f"{network}.json")


def record_missing_weights(run: RunDirectory, config: RunConfig, network: Network) -> None:
    """Write the record of a network that has weights and no record."""
    if storage.exists(run.weights(network)) and run.read_json("checkpoints", f"{network}.json") is None:
        record_weights(run, config, network)


def weights_digests(run: RunDirectory) -> dict[str, str]:
    """sha256 of the weights of each network that the run has."""
    records = {network: run.read_json("checkpoints", f"{network}.json") for network in NETWORKS}
    return {network: record["sha256"] for network, record in records.items() if record}


def provenance(config: RunConfig, run: RunDirectory) -> dict[str, dict[str, Any]]:
    """What each scored map was computed with.

    Args:
        config: the run's config.
        run: the run directory, for the digests of the weights.

    Returns:
        By name (`cam`, `combined_cam`, `walk`, `pseudo_label`, `prediction`): `split`, `fidelity` of each stage
        that took part, sha256 of `weights`, and the numbers that the field's tables differ in: `scales`, the
        thresholds, the walk's numbers, the CRF's.
    """
    data = config.data
    labelled = _split(data.train.split, data.train.limit)
    if data.score is not None:
        labelled = f"{data.score} (of {labelled})"
    predicted = _split(data.predict.split, data.predict.limit) if data.predict else labelled
    cam = _entry(config, run, labelled, ("cam",), ("classifier",)) | {"scales": list(config.cam.scales)}
    if config.cam.source != "classifier":
        cam["cam_source"] = config.cam.source
    seed_stages = _SEED_STAGES if config.region_names else _SEED_STAGES[:1]
    combined = cam | _entry(config, run, labelled, seed_stages, ("classifier",)) | {"combine": _combine(config)}
    fg_threshold, bg_threshold = config.affinity_label.thresholds(config.combine_mode)
    affinity = {
        "fg_threshold": fg_threshold,
        "bg_threshold": bg_threshold,
        "crf": _crf(config, config.affinity_label.crf),
    }
    stages = (*seed_stages, "walk")
    walk = (
        combined | _entry(config, run, labelled, stages, ("classifier", "affinitynet")) | {"affinity_label": affinity}
    )
    walk |= {name: getattr(config.walk, name) for name in ("source", "beta", "exp_times", "radius")}
    pseudo = walk | {"pooled_within": list(config.pooled_regions), "threshold": config.pseudo_label.threshold}
    pseudo["crf"] = _crf(config, config.pseudo_label.crf)
    prediction = _entry(config, run, predicted, ("predict",), ("deeplab",))
    prediction |= {"scales": list(config.predict.scales), "crf": _crf(config, config.predict.crf)}
    return {
        "cam": cam,
        "combined_cam": combined,
        "walk": walk,
        "pseudo_label": pseudo,
        "prediction": prediction,
    }


def describe(name: str, entry: dict[str, Any]) -> str:
    """One line for people about one scored map."""
    parts = [f"split {entry['split']}", "fidelity " + _grouped(entry["fidelity"])]
    if "cam_source" in entry:
        parts.append(f"CAM from {entry['cam_source']}")
    if "combine" in entry:
        regions = ", ".join(entry["combine"]["regions"])
        parts.append(f"combine {entry['combine']['mode']}" + (f" of {regions}" if regions else ""))
    if "source" in entry:
        parts.append(
            f"walk from {entry['source']}, beta {entry['beta']:g}, exp_times {entry['exp_times']}, "
            f"radius {entry['radius']}"
        )
    if entry.get("pooled_within"):
        parts.append(f"pooled within {', '.join(entry['pooled_within'])}")
    if "threshold" in entry:
        parts.append(f"threshold {entry['threshold']:g}")
    elif name != "prediction":
        parts.append("threshold: best on these images")
    if "crf" in entry:
        engine = entry["crf"].get("engine", "pydensecrf")  # scores without it are of a time when there was no other
        parts.append(f"CRF t={entry['crf']['iterations']} ({engine})")
    digests = [f"{network} {digest[:_SHORT_DIGEST]}" for network, digest in entry["weights"].items()]
    return f"{name}: {'; '.join([*parts, 'weights ' + (', '.join(digests) or 'not recorded')])}"


def describe_versions(environment: dict[str, Any] | None) -> str:
    """One line with the versions that a run recorded in its environment.json."""
    if not environment:
        return "versions: not recorded"
    packages = environment["packages"]
    told = [f"{name} {packages[name]}" for name in TOLD_PACKAGES if name in packages]
    return f"versions: {', '.join(told)}, JPEG library {environment['jpeg_library']}; seed {environment['seed']}"


def _entry(
    config: RunConfig, run: RunDirectory, split: str, stages: tuple[Any, ...], networks: tuple[Network, ...]
) -> dict[str, Any]:
    digests = weights_digests(run)
    return {
        "split": split,
        "fidelity": {stage: config.fidelity_of(stage) for stage in stages},
        "weights": {network: digests[network] for network in networks if network in digests},
    }


def _combine(config: RunConfig) -> dict[str, Any]:
    """The mode, and by name what each region source is."""
    regions = {}
    for name in config.region_names:
        source = config.regions.source(name)
        regions[name] = {"kind": source.kind, "uss": source.merged, "options": config.regions.options_of(source)}
    return {"mode": config.combine_mode, "rounds": config.combine.rounds, "regions": regions}


def _split(split: str | None, limit: int | None) -> str:
    return (split or "all images") + ("" if limit is None else f", first {limit}")


def _crf(config: RunConfig, crf: LabelCrfConfig | SoftmaxCrfConfig) -> dict[str, Any]:
    return crf.model_dump(mode="json") | {"engine": config.used_crf_engine}


def _grouped(fidelity: dict[str, str]) -> str:
    if len(set(fidelity.values())) == 1:
        return next(iter(fidelity.values()))
    return ", ".join(f"{stage} {value}" for stage, value in fidelity.items())


def _digest(url: str) -> str:
    return hashlib.sha256(storage.read_bytes(url)).hexdigest()
