"""Config of the two dense CRFs."""

from pfit_ray.config.base import Section, option


class LabelCrfConfig(Section):
    """Dense CRF over a label map (affinity labels and pseudo labels)."""

    iterations: int = option(10, "Mean-field iterations; 0 leaves the CRF out.", ge=0, le=100)
    gt_prob: float = option(0.7, "Probability that the given label is right.", gt=0.0, lt=1.0)
    gaussian_sxy: float = option(3.0, "Spatial width of the smoothness term.", unit="pixels", gt=0.0)
    gaussian_compat: float = option(3.0, "Weight of the smoothness term.", ge=0.0)
    bilateral_sxy: float = option(50.0, "Spatial width of the appearance term.", unit="pixels", gt=0.0)
    bilateral_srgb: float = option(5.0, "Colour width of the appearance term.", unit="grey levels", gt=0.0)
    bilateral_compat: float = option(10.0, "Weight of the appearance term.", ge=0.0)


class SoftmaxCrfConfig(Section):
    """Dense CRF over class probabilities (segmentation inference)."""

    iterations: int = option(10, "Mean-field iterations; 0 leaves the CRF out.", ge=0, le=100)
    gaussian_sxy: float = option(3.0, "Spatial width of the smoothness term.", unit="pixels", gt=0.0)
    gaussian_compat: float = option(3.0, "Weight of the smoothness term.", ge=0.0)
    bilateral_sxy: float = option(80.0, "Spatial width of the appearance term.", unit="pixels", gt=0.0)
    bilateral_srgb: float = option(13.0, "Colour width of the appearance term.", unit="grey levels", gt=0.0)
    bilateral_compat: float = option(10.0, "Weight of the appearance term.", ge=0.0)
