"""One validated model is one run."""

import os
from typing import Literal

from pydantic import model_validator

from pfit_ray.config.base import Section, option
from pfit_ray.config.data import DataConfig, ImagesConfig, PredictedLabelsConfig
from pfit_ray.config.resources import ResourcesConfig
from pfit_ray.config.stages import (
    AffinityLabelConfig,
    CamConfig,
    EvaluateConfig,
    Fidelity,
    FitConfig,
    PredictConfig,
    PseudoLabelConfig,
    RegionsConfig,
    WalkConfig,
)
from pfit_ray.config.training import AffinityNetConfig, ClassifierConfig, DeepLabConfig

Pass = Literal["seeds", "labels", "predict"]
PASSES: tuple[Pass, ...] = ("seeds", "labels", "predict")


class RunConfig(Section):
    """Everything that decides what a run computes and where."""

    output: str = option(..., "The run directory: a folder or a URL, such as s3://bucket/run.", min_length=1)
    passes: tuple[Pass, ...] = option(PASSES, "The passes to run.", min_length=1)
    seed: int = option(0, "Seed of the trainings.", ge=0, lt=2**31)
    fidelity: Fidelity = option(
        "lossless", "lossless: the clean method; reference: the published programs with their quirks."
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
    sheets: int = option(8, "Contact sheets drawn at the end of the run.", unit="images", ge=0)
    data: DataConfig = option(..., "Images, labels and classes.")
    images: ImagesConfig = option(ImagesConfig(), "Limits on what is decoded.")
    predicted_labels: PredictedLabelsConfig = option(PredictedLabelsConfig(), "Labels of images that have none.")
    classifier: ClassifierConfig = option(ClassifierConfig(), "The CAM classifier.")
    cam: CamConfig = option(CamConfig(), "Class activation maps.")
    regions: RegionsConfig = option(RegionsConfig(), "Unsupervised segmentations.")
    fit: FitConfig = option(FitConfig(), "PerimeterFit masks.")
    affinity_label: AffinityLabelConfig = option(AffinityLabelConfig(), "Affinity labels.")
    affinitynet: AffinityNetConfig = option(AffinityNetConfig(), "AffinityNet.")
    walk: WalkConfig = option(WalkConfig(), "The random walk.")
    pseudo_label: PseudoLabelConfig = option(PseudoLabelConfig(), "Pseudo labels.")
    deeplab: DeepLabConfig = option(DeepLabConfig(), "DeepLabv3+.")
    predict: PredictConfig = option(PredictConfig(), "Segmentation inference.")
    evaluate: EvaluateConfig = option(EvaluateConfig(), "Scoring against ground truth.")
    resources: ResourcesConfig = option(ResourcesConfig(), "Where the stages run.")

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        root = self.data.root
        if self.data.source == "folder" and root and _place(self.output).startswith(_place(root)):
            raise ValueError(
                f"output {self.output!r} lies inside data.root {root!r}, where its pictures would count as images; "
                "choose a place outside"
            )
        sets = self.classifier.zero_shot
        if self.classifier.source == "zero_shot" and sets is not None:
            names = self.data.class_list.names
            for name in sets:
                if name not in names:
                    raise ValueError(f"classifier.zero_shot names class {name!r}, which data.classes does not list")
            for name in names:
                if not sets.get(name):
                    raise ValueError(f"classifier.zero_shot gives no ImageNet index for class {name!r}")
        return self

    def fidelity_of(self, stage: Literal["cam", "regions", "fit", "walk", "predict"]) -> Fidelity:
        """The fidelity of one stage: its own, or the run's."""
        own: Fidelity | None = getattr(self, stage).fidelity
        return own or self.fidelity


def _place(url: str) -> str:
    """A URL, or the absolute path of a local one, as a prefix of everything below it."""
    return (url.rstrip("/") if "://" in url else os.path.abspath(url)) + "/"
