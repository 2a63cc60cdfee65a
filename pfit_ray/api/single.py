"""Single stages on single images: arrays in, arrays out, without Ray and without a run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pfit_ray.config.data import PredictedLabelsConfig
from pfit_ray.config.run import chosen_engine
from pfit_ray.config.stages import CamConfig, FitConfig, PredictConfig, RegionsConfig
from pfit_ray.constants import OK, CrfEngine, Row
from pfit_ray.errors import UserError
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.imagenet import zero_shot_sets
from pfit_ray.nets.networks import rebuild_network
from pfit_ray.nets.pretrained import package_weights, timm_weights
from pfit_ray.nets.published import convert_published, identify_backbone, is_published
from pfit_ray.nets.weights import load_into, read_state
from pfit_ray.nets.zero_shot import zero_shot_classifier as make_zero_shot
from pfit_ray.ops.cam.cam import merge_hr_cam
from pfit_ray.ops.cam.combine import combine_hr_cam
from pfit_ray.ops.cam.label_maps import pseudo_label as label_map
from pfit_ray.ops.cam.perimeter_fit import connected_regions
from pfit_ray.ops.cam.pool import pool_hr_walk
from pfit_ray.ops.crf.crf import LabelCrf
from pfit_ray.runner.segmenter import segmenter_fields
from pfit_ray.tasks.base import Stage
from pfit_ray.tasks.cam import CamStage
from pfit_ray.tasks.fit import FitStage, PerimeterStage
from pfit_ray.tasks.predict import PredictStage
from pfit_ray.tasks.prediction import PredictionStage
from pfit_ray.tasks.regions import RegionsStage


class Cam(NamedTuple):
    """Class activation maps of an image.

    `keys` int32 (K,): class ids, 1 for the classifier's first class, ascending; `cam` float32 (K, ceil(H/4), ceil(W/4))
    and `hr_cam` float32 (K, H, W), in [0, 1]; `scores` float32 (C,) in [0, 1], of all C classes.
    """

    keys: NDArray[np.int32]
    cam: NDArray[np.float32]
    hr_cam: NDArray[np.float32]
    scores: NDArray[np.float32]


class Fit(NamedTuple):
    """What PerimeterFit makes of CAMs.

    `combined_hr_cam` float32 (K, H, W) in [0, 2]; by region source (`slic`, `quickshift`): `regions` uint8 (H, W) and
    `fit_masks` bool (K, H, W).
    """

    combined_hr_cam: NDArray[np.float32]
    regions: dict[str, NDArray[np.uint8]]
    fit_masks: dict[str, NDArray[np.bool_]]


class _GivenCamStage(CamStage):
    """The CAM stage with a classifier that is in memory."""

    def __init__(self, network: CamClassifier, config: CamConfig, predicted: PredictedLabelsConfig) -> None:
        n_classes = len(network.state_dict()[network.class_tensor])
        super().__init__("", config, predicted, [str(number) for number in range(n_classes)])
        self.use(network)


def load_classifier(url: str, backbone: str | None = None) -> CamClassifier:
    """A CAM classifier from a file: of a run (`RUN/checkpoints/classifier.safetensors`), or a published checkpoint.

    Args:
        url: path or URL of a .safetensors or .pth file.
        backbone: a timm model or alias, such as `resnest101`, for a file that does not say it.

    Raises:
        UserError: when there is no such file or it holds something else.
    """
    try:
        state, metadata = read_state(url)
        name = backbone or metadata.get("backbone") or identify_backbone(state)
        if name is None:
            raise ValueError("the file does not say its backbone; name it")
        if is_published(state):
            state = convert_published(state, "classifier", name)
        network = rebuild_network(metadata.get("network") or CamClassifier.__name__, name, state)
        if not isinstance(network, CamClassifier):
            raise ValueError(f"the file holds a {type(network).__name__}, not a classifier")
        load_into(network, state, "the file")
    except FileNotFoundError as error:
        raise UserError(f"{url}: there is no such file") from error
    except ValueError as error:
        raise UserError(f"{url}: {error}") from error
    return network.eval()


def zero_shot_classifier(
    index_sets: Sequence[str | Sequence[int | str]], backbone: str = "efficientnet_lite0", weights: str = "package"
) -> CamClassifier:
    """A CAM classifier without training, of the rows of an ImageNet classifier.

    Args:
        index_sets: for each class, a word, or ImageNet numbers (0..999), names or WordNet ids; see `find_classes`.
        backbone: a timm model.
        weights: `package`: EfficientNet-Lite0 of the extra `quickstart`; `imagenet`: timm downloads them.

    Raises:
        UserError: when the weights cannot be had or a word means no ImageNet class.
    """
    words = {str(number): (one,) if isinstance(one, str) else one for number, one in enumerate(index_sets, start=1)}
    try:
        sets = zero_shot_sets(list(words), words)
        source = package_weights(backbone) if weights == "package" else timm_weights(backbone)
        return make_zero_shot(backbone, source, sets).eval()
    except ValueError as error:
        raise UserError(f"zero_shot_classifier: {error}") from error


def cam(
    image: NDArray[np.uint8], classifier: CamClassifier, keys: Sequence[int] | None = None,
    *, threshold: float = 0.5, **options: Any,
) -> Cam:  # fmt: skip
    """Class activation maps (PuzzleCAM inference, Jo and Yu, ICIP 2021).

    Args:
        image: uint8 RGB (H, W, 3).
        classifier: of `load_classifier` or `zero_shot_classifier`.
        keys: ids of the classes in the image, 1 for the first; None: those with a score of `threshold` or more.
        threshold: see `keys`, in [0, 1].
        **options: fields of the config's section `cam`, such as `scales=(1.0,)` or `flip=False`; `fidelity` and
            `stored_as` change nothing here.

    Raises:
        UserError: when an option or a key is wrong.
        ValueError: when the image has another form.
        RowError: when the network puts out NaN.
    """
    stage = _GivenCamStage(
        classifier,
        _section(CamConfig, options, "cam"),
        _section(PredictedLabelsConfig, {"threshold": threshold}, "cam"),
    )
    row = _row(image)
    row["keys"] = None if keys is None else sorted(set(keys))
    if keys is not None and not all(1 <= key <= len(stage.thresholds) for key in keys):
        raise UserError(f"cam: keys are {list(keys)}; the classifier's classes are 1 to {len(stage.thresholds)}")
    (output,) = stage.forward(image[None])
    stage.finish(row, output)
    hr_cam = merge_hr_cam(row["cam_maps"], row["height"], row["width"], crop=False)
    return Cam(np.array(row["keys"], dtype=np.int32), row["cam"], hr_cam, output[1])


class Segmenter:
    """A trained DeepLabv3+ with its multi-scale inference and CRF; made by `load_segmenter`.

    `classes` has the names of the class ids 1, 2, ...
    """

    def __init__(self, classes: Sequence[str], stages: Sequence[Stage]) -> None:
        self.classes = tuple(classes)
        self._stages = stages
        for stage in stages:
            stage.setup()

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The label map uint8 (H, W) of an image uint8 RGB (H, W, 3): class ids, 0 is background."""
        row = _row(image)
        for stage in self._stages:
            stage.process(row)
        label: NDArray[np.uint8] = row["prediction"]
        return label


def load_segmenter(model: str, **options: Any) -> Segmenter:
    """A trained network on single images, as pass predict computes it.

    Args:
        model: a run directory with a trained DeepLabv3+, or the .safetensors or .onnx file of one.
        **options: fields of the config's section `predict`, such as `scales=(1.0,)`, instead of the run's.

    Raises:
        UserError: when there is no such network, or an option is wrong.
    """
    fields = segmenter_fields(model)
    config = _section(PredictConfig, {**fields.get("predict", {}), **options}, "predict")
    reference = (config.fidelity or fields.get("fidelity")) == "reference"
    engine: CrfEngine = fields.get("crf_engine") or ("pydensecrf" if reference else "native")
    networks = chosen_engine(fields.get("network_engine"), "reference" if reference else "lossless", config.precision)
    predict = PredictStage(fields["deeplab"]["weights"], config, reference, networks)
    return Segmenter(fields["classes"], [predict, PredictionStage(config, engine)])


def perimeter_fit(
    image: NDArray[np.uint8],
    hr_cam: NDArray[np.floating],
    *,
    regions: Mapping[str, Any] | None = None,
    fit: Mapping[str, Any] | None = None,
) -> Fit:
    """CAMs doubled where regions and perimeters agree (PerimeterFit, Ostrowski, Prabakaran and Shafique 2023).

    It takes some seconds: a small network is trained on the image itself, twice.

    Args:
        image: uint8 RGB (H, W, 3).
        hr_cam: float (K, H, W) in [0, 1].
        regions: fields of the config's section `regions`, such as `{"uss": {"fused": True}}`; `fidelity` counts.
        fit: fields of the config's section `fit`; `fidelity` counts.

    Raises:
        UserError: when an option is wrong.
        ValueError: when image or map has another form.
    """
    row = _row(image)
    if hr_cam.ndim != 3 or hr_cam.shape[1:] != image.shape[:2]:
        raise ValueError(f"hr_cam must be (K, {row['height']}, {row['width']}), not {hr_cam.shape}")
    row["hr_cam"] = hr_cam
    of_regions = _section(RegionsConfig, regions or {}, "regions")
    of_fit = _section(FitConfig, fit or {}, "fit")
    reference = of_fit.fidelity == "reference"
    names = of_regions.names
    if any(source.kind == "features" for source in of_regions.sources):
        raise UserError("perimeter_fit: regions of kind features need the CAM network, which only a run has")
    stages: list[Stage] = [
        RegionsStage(source, of_regions, of_regions.fidelity == "reference") for source in of_regions.sources
    ]
    stages += [PerimeterStage(of_fit, reference, names), FitStage(of_fit, reference, of_regions.sources)]
    for stage in stages:
        stage.setup()
        stage.process(row)
    masks = {name: row[f"fit_mask_{name}"] for name in names}
    combined = combine_hr_cam(hr_cam, list(masks.values()))
    return Fit(combined, {name: row[f"regions_{name}"] for name in names}, cast(dict[str, Any], masks))


def pseudo_label(
    image: NDArray[np.uint8], class_maps: NDArray[np.floating], keys: Sequence[int] | NDArray[np.integer],
    *, threshold: float = 0.35, crf: LabelCrf | None = None, regions: Iterable[NDArray[np.unsignedinteger]] = (),
) -> NDArray[np.uint8]:  # fmt: skip
    """The label map of class maps: the strongest class above a threshold, refined by a dense CRF.

    Args:
        image: uint8 RGB (H, W, 3).
        class_maps: floats (K, H, W) in [0, 1]: walked CAMs, as published, or CAMs as they are.
        keys: ids of the K classes, ascending, 1..254.
        threshold: value of the background, which wins ties.
        crf: options of the CRF; None takes one iteration, as published. `LabelCrf(iterations=0)` leaves it out.
        regions: label maps (H, W) of segmentations, such as `perimeter_fit(...).regions.values()`, within whose
            connected regions the maps are pooled first, as runs do by default; none, as published.

    Returns:
        uint8 (H, W): class ids, 0 for background.

    Raises:
        ValueError: when image, maps and keys do not fit together.
    """
    _row(image)
    if class_maps.shape != (len(keys), *image.shape[:2]):
        raise ValueError(
            f"class_maps must be ({len(keys)}, {image.shape[0]}, {image.shape[1]}), not {class_maps.shape}"
        )
    sources = list(regions)
    if sources:
        class_maps = pool_hr_walk(class_maps, [connected_regions(source) for source in sources])
    ids = np.asarray(keys, dtype=np.int32)
    return label_map(image, class_maps, ids, threshold=threshold, crf=crf or LabelCrf(iterations=1))[0]


def _row(image: NDArray[np.uint8]) -> Row:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 RGB (H, W, 3), not {image.dtype} {image.shape}")
    return {"image_id": "image", "image": image, "height": image.shape[0], "width": image.shape[1], "status": OK}


def _section(section: Any, fields: Mapping[str, Any], name: str) -> Any:
    try:
        return section.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{name}: option {field!r}: {first['msg'].removeprefix('Value error, ')}") from error
