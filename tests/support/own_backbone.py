"""A network that timm does not have, registered with timm as docs/extend.md says."""

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

default_cfgs = generate_default_cfgs(
    {
        "resnet10_thin": {
            "input_size": (3, 224, 224),
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "num_classes": 1000,
            "first_conv": "conv1",
            "classifier": "fc",
        }
    }
)


@register_model
def resnet10_thin(pretrained: bool = False, **options) -> ResNet:
    """A ResNet of four blocks with a quarter of the channels."""
    blocks = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (16, 32, 64, 128)}
    return build_model_with_cfg(ResNet, "resnet10_thin", pretrained, **blocks, **options)
