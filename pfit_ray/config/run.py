"""One validated model is one run."""

import os
from collections.abc import Iterator
from importlib import util
from typing import Any, Literal

from pydantic import ValidationInfo, model_validator

from pfit_ray.config.base import Section, option
from pfit_ray.config.credentials import carries_credentials, secret_entries
from pfit_ray.config.data import DataConfig, ImagesConfig, PredictedLabelsConfig
from pfit_ray.config.resources import FaultsConfig, ResourcesConfig
from pfit_ray.config.stages import (
    AffinityLabelConfig,
    CamConfig,
    CombineConfig,
    CombineMode,
    EvaluateConfig,
    Fidelity,
    FitConfig,
    Precision,
    PredictConfig,
    PseudoLabelConfig,
    RegionsConfig,
    StoredAs,
    WalkConfig,
)
from pfit_ray.config.storage import StorageConfig
from pfit_ray.config.training import AffinityNetConfig, ClassifierConfig, DeepLabConfig
from pfit_ray.constants import LOCAL_PROTOCOLS, PUBLISHED_SOURCES, CrfEngine, NetworkEngine

Pass = Literal["seeds", "labels", "predict"]
PASSES: tuple[Pass, ...] = ("seeds", "labels", "predict")
FidelityStage = Literal["cam", "regions", "fit", "walk", "predict"]

ENGINE_PACKAGES = ("onnx", "onnxruntime")
"""What network_engine onnxruntime needs."""

_NETWORK_STAGE: dict[Pass, FidelityStage] = {"seeds": "cam", "labels": "walk", "predict": "predict"}
_SAME_PROTOCOL = {"s3a": "s3", "gcs": "gs"}


class RunConfig(Section):
    """Everything that decides what a run computes and where."""

    output: str = option(..., "The run directory: a folder or a URL, such as s3://bucket/run.", min_length=1)
    passes: tuple[Pass, ...] = option(PASSES, "The passes to run.", min_length=1)
    seed: int = option(0, "Seed of the trainings.", ge=0, lt=2**31)
    fidelity: Fidelity = option(
        "lossless", "lossless: the clean method; reference: the published programs with their quirks."
    )
    crf_engine: CrfEngine | None = option(
        None,
        "The dense CRF: native is our own; pydensecrf, that of the published programs, is the extra of that name and "
        "needs a compiler; null is native, or pydensecrf with fidelity reference.",
    )
    network_engine: NetworkEngine | None = option(
        None,
        "What computes networks on CPUs: torch; channels_last, which is torch with a layout in memory that its "
        "convolutions prefer; onnxruntime, which takes half to two thirds of torch's time and is in the extra onnx. "
        "Null is onnxruntime where this process has it, else channels_last, and in a run that goes on what it was "
        "begun with. Results differ by 1e-5 of their maximum, so a run keeps to one, and all its nodes need it. "
        "Fidelity reference, precisions other than float32, and GPUs take torch.",
    )
    shard_size: int = option(
        16,
        "Images per shard: the unit of work, of output files and of resuming.",
        unit="images",
        ge=1,
        le=4096,
    )
    max_failed_fraction: float = option(
        0.5, "A pass stops when a larger share of its images has failed.", ge=0.0, le=1.0
    )
    faults: FaultsConfig = option(FaultsConfig(), "Crashes, stuck calls and lost workers.")
    sheets: int = option(8, "Contact sheets drawn at the end of the run.", unit="images", ge=0)
    data: DataConfig = option(..., "Images, labels and classes.")
    images: ImagesConfig = option(ImagesConfig(), "Limits on what is decoded.")
    predicted_labels: PredictedLabelsConfig = option(PredictedLabelsConfig(), "Labels of images that have none.")
    classifier: ClassifierConfig = option(ClassifierConfig(), "The CAM classifier.")
    cam: CamConfig = option(CamConfig(), "Class activation maps.")
    regions: RegionsConfig = option(RegionsConfig(), "Unsupervised segmentations.")
    fit: FitConfig = option(FitConfig(), "PerimeterFit masks.")
    combine: CombineConfig = option(CombineConfig(), "The combined CAM.")
    affinity_label: AffinityLabelConfig = option(AffinityLabelConfig(), "Affinity labels.")
    affinitynet: AffinityNetConfig = option(AffinityNetConfig(), "AffinityNet.")
    walk: WalkConfig = option(WalkConfig(), "The random walk.")
    pseudo_label: PseudoLabelConfig = option(PseudoLabelConfig(), "Pseudo labels.")
    deeplab: DeepLabConfig = option(DeepLabConfig(), "DeepLabv3+.")
    predict: PredictConfig = option(PredictConfig(), "Segmentation inference.")
    evaluate: EvaluateConfig = option(EvaluateConfig(), "Scoring against ground truth.")
    resources: ResourcesConfig = option(ResourcesConfig(), "Where the stages run.")
    storage: StorageConfig = option(StorageConfig(), "How buckets are reached; no secrets.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_credentials(cls, given: Any, info: ValidationInfo) -> Any:
        if _is_stored(info):
            return given
        for field, text in _texts(given, ""):
            if carries_credentials(text):
                raise ValueError(
                    f"the URL of {field!r} contains credentials, and the config is stored with the results; use "
                    "environment variables, a role of the machine, or storage.profile"
                )
        for field in secret_entries(given):
            if not field.startswith("storage."):  # whose own sentence knows better what to do
                raise ValueError(
                    f"{field!r} looks like a secret, and the config is stored with the results; let the plug-in read "
                    "it from an environment variable, which each node must have"
                )
        return given

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> "RunConfig":
        listed = self.data.listed_place
        if listed and not _is_stored(info) and _place(self.output).startswith(_place(listed)):
            raise ValueError(
                f"output {self.output!r} lies inside data.root {self.data.root!r}, where its files would count as "
                "images; choose a place outside"
            )
        for name in self.predicted_labels.class_thresholds:
            if name not in self.data.class_list.names:
                raise ValueError(
                    f"predicted_labels.class_thresholds names class {name!r}, which data.classes does not list"
                )
        self._check_seeds()
        if self.classifier.source == "zero_shot":
            for name, entries in (self.classifier.zero_shot or {}).items():
                if name not in self.data.class_list.names:
                    raise ValueError(f"classifier.zero_shot names class {name!r}, which data.classes does not list")
                if not entries:
                    raise ValueError(f"classifier.zero_shot gives no ImageNet class for class {name!r}")
        return self

    def _check_seeds(self) -> None:
        mode = self.combine_mode
        try:
            self.affinity_label.thresholds(mode)
        except ValueError as error:
            raise ValueError(f"affinity_label: {error} (null uses that of combine.mode {mode})") from error
        if mode == "none":
            if self.pseudo_label.pool:
                raise ValueError(
                    "pseudo_label.pool needs regions, which combine.mode none leaves out; set pool to false or choose "
                    "another mode"
                )
            for name in ("affinitynet", "deeplab"):
                training = getattr(self, name).train
                scored = training.min_score is not None or training.drop_worst or training.sample_by == "score"
                if training.score == "mask_agreement" and scored:
                    raise ValueError(
                        f"{name}.train goes by the score mask_agreement, and with combine.mode none there are no "
                        "masks; set its score to cam_margin, or choose another mode"
                    )
        elif self.fidelity_of("fit") == "reference":
            for source in self.regions.sources:
                if source.kind not in PUBLISHED_SOURCES or not source.merged:
                    raise ValueError(
                        f"the published PerimeterFit programs have no region source {source.column!r}, only slic and "
                        "quickshift with the CNN; use only these, or set fit.fidelity=lossless"
                    )

        if mode != "none" and self.cam.source != "classifier":
            for source in self.regions.sources:
                if source.kind == "features":
                    raise ValueError(
                        f"region source {source.column!r} of kind features needs the classifier's features, but "
                        f"cam.source is {self.cam.source!r}; choose other region sources, or cam.source=classifier"
                    )

    @property
    def combine_mode(self) -> CombineMode:
        """What makes the combined CAM: `combine.mode`, or the published way."""
        return self.combine.mode or "fit"

    @property
    def combined_maximum(self) -> float:
        """The largest value that a combined CAM may have: 2 where it is doubled, else 1."""
        return 2.0 if self.combine_mode in ("fit", "pool_fit") else 1.0

    @property
    def region_names(self) -> tuple[str, ...]:
        """Names of the region sources; none if the CAM stays as it is."""
        return () if self.combine_mode == "none" else self.regions.names

    @property
    def pooled_regions(self) -> tuple[str, ...]:
        """Names of the region sources within whose regions the walked map is pooled; none if it is not."""
        pool = self.pseudo_label.pool
        return self.region_names if (self.fidelity_of("walk") != "reference" if pool is None else pool) else ()

    def fidelity_of(self, stage: FidelityStage) -> Fidelity:
        """The fidelity of one stage: its own, or the run's."""
        own: Fidelity | None = getattr(self, stage).fidelity
        return own or self.fidelity

    @property
    def used_crf_engine(self) -> CrfEngine:
        """The engine of all dense CRFs: `crf_engine`, or what the run's fidelity asks for."""
        return self.crf_engine or ("pydensecrf" if self.fidelity == "reference" else "native")

    def engine_of(self, name: Pass) -> NetworkEngine:
        """What computes a pass's network on CPUs."""
        stage = _NETWORK_STAGE[name]
        return chosen_engine(self.network_engine, self.fidelity_of(stage), getattr(self, stage).precision)

    @property
    def cam_stored_as(self) -> StoredAs:
        """Type of the stored CAMs: `cam.stored_as`, or what the fidelity of the CAMs asks for."""
        return self.cam.stored_as or ("float32" if self.fidelity_of("cam") == "reference" else "float16")


def chosen_engine(asked: NetworkEngine | None, fidelity: Fidelity, precision: Precision) -> NetworkEngine:
    """What computes a network on CPUs: `network_engine`, or what its stage's fidelity and precision ask for."""
    if fidelity == "reference" or precision != "float32":
        return "torch"
    there = all(util.find_spec(package) for package in ENGINE_PACKAGES)
    return asked or ("onnxruntime" if there else "channels_last")


def _texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    """Every text in a document, and its field."""
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, dict):
        for name, child in value.items():
            yield from _texts(child, f"{field}.{name}" if field else str(name))
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _texts(child, field)


def _is_stored(info: ValidationInfo) -> bool:
    """Whether it is a config that a run has stored: what it was allowed to be then, it may be now."""
    return bool(info.context and info.context.get("stored"))


def _place(url: str) -> str:
    """A URL, or the path that a local one leads to in the end, as a prefix of everything below it."""
    for protocol in LOCAL_PROTOCOLS:
        url = url.removeprefix(protocol)
    if "://" in url:
        protocol, _, path = url.partition("://")
        return f"{_SAME_PROTOCOL.get(protocol, protocol)}://{path.rstrip('/')}/"
    return os.path.join(os.path.realpath(os.path.expanduser(url)), "")
