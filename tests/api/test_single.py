import numpy as np
import pytest
import skimage.data
import torch

import pfit_ray as pf
from pfit_ray import storage
from pfit_ray.errors import UserError
from pfit_ray.nets.affinitynet import AffinityNet
from pfit_ray.nets.classifier import CamClassifier
from pfit_ray.nets.weights import save_network
from pfit_ray.ops.crf.crf import LabelCrf

BACKBONE = "efficientnet_lite0"


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.chelsea()[::4, ::4])


@pytest.fixture(scope="module")
def classifier() -> CamClassifier:
    torch.manual_seed(0)
    return CamClassifier(BACKBONE, 3).eval()


def test_cam(photo: np.ndarray, classifier: CamClassifier) -> None:
    found = pf.cam(photo, classifier, [3, 1], scales=(1.0,), flip=False)
    assert found.keys.tolist() == [1, 3]
    assert found.cam.shape == (2, 19, 29)
    assert found.hr_cam.shape == (2, *photo.shape[:2])
    assert 0 <= found.hr_cam.min() <= found.hr_cam.max() <= 1
    assert found.scores.shape == (3,)
    again = pf.cam(photo, classifier, [1], scales=(1.0,), flip=False)
    np.testing.assert_array_equal(again.hr_cam[0], found.hr_cam[0])


def test_classes_by_their_scores(photo: np.ndarray, classifier: CamClassifier) -> None:
    scores = pf.cam(photo, classifier, [1], scales=(1.0,)).scores
    found = pf.cam(photo, classifier, scales=(1.0,), threshold=float(np.sort(scores)[1]))
    assert found.keys.tolist() == [key for key in (1, 2, 3) if scores[key - 1] >= np.sort(scores)[1]]
    assert pf.cam(photo, classifier, scales=(1.0,), threshold=1.0).hr_cam.shape == (0, *photo.shape[:2])


def test_classifier_of_a_file(photo: np.ndarray, classifier: CamClassifier, tmp_path) -> None:
    path = str(tmp_path / "classifier.safetensors")
    storage.write_bytes(path, save_network(classifier, {}))
    options = {"scales": (1.0,), "flip": False}
    one, other = (pf.cam(photo, net, [2], **options) for net in (classifier, pf.load_classifier(path)))
    np.testing.assert_array_equal(one.hr_cam, other.hr_cam)
    storage.write_bytes(path, save_network(AffinityNet(BACKBONE), {}))
    with pytest.raises(UserError, match="holds a AffinityNet"):
        pf.load_classifier(path)
    with pytest.raises(UserError, match="there is no such file"):
        pf.load_classifier(str(tmp_path / "nowhere"))


def test_perimeter_fit_is_the_stages(photo: np.ndarray) -> None:
    hr_cam = np.zeros((1, *photo.shape[:2]), np.float32)
    hr_cam[0, 10:60, 20:90] = 0.5
    fit = pf.perimeter_fit(photo, hr_cam, regions={"uss": {"max_iterations": 2}, "slic": {"n_segments": 50}})
    agreed = fit.fit_masks["slic"] & fit.fit_masks["quickshift"]
    np.testing.assert_array_equal(fit.combined_hr_cam, hr_cam * (1 + agreed))
    assert fit.regions["slic"].shape == photo.shape[:2]
    assert not agreed[hr_cam == 0].any()


def test_pseudo_label(photo: np.ndarray) -> None:
    maps = np.zeros((2, *photo.shape[:2]), np.float32)
    maps[0, :20], maps[1, 20:40] = 0.4, 0.6
    label = pf.pseudo_label(photo, maps, [2, 7], threshold=0.5, crf=LabelCrf(iterations=0))
    expected = np.zeros(photo.shape[:2], np.uint8)
    expected[20:40] = 7
    np.testing.assert_array_equal(label, expected)
    assert set(np.unique(pf.pseudo_label(photo, maps, [2, 7]))) <= {0, 2, 7}


def test_pseudo_label_within_regions(photo: np.ndarray) -> None:
    maps = np.zeros((1, *photo.shape[:2]), np.float32)
    maps[0, :10] = 0.8
    regions = np.zeros(photo.shape[:2], np.uint8)
    regions[:20] = 3  # the map covers half of it: (0.8 + 0.4) / 2 there, 0.4 / 2 in the other half
    for threshold, rows in ((0.5, 10), (0.15, 20)):
        label = pf.pseudo_label(
            photo, maps, [2], threshold=threshold, crf=LabelCrf(iterations=0), regions=iter([regions])
        )
        assert (label[:rows] == 2).all()
        assert not label[rows:].any()


def test_mistakes(photo: np.ndarray, classifier: CamClassifier) -> None:
    with pytest.raises(ValueError, match=r"uint8 RGB \(H, W, 3\), not float64"):
        pf.cam(photo / 255.0, classifier, [1])
    with pytest.raises(UserError, match="the classifier's classes are 1 to 3"):
        pf.cam(photo, classifier, [4])
    with pytest.raises(UserError, match="cam: option 'flp'"):
        pf.cam(photo, classifier, [1], flp=False)
    with pytest.raises(ValueError, match=r"hr_cam must be \(K, 75, 113\)"):
        pf.perimeter_fit(photo, np.zeros((1, 3, 3)))
    with pytest.raises(ValueError, match=r"class_maps must be \(2, 75, 113\)"):
        pf.pseudo_label(photo, np.zeros((1, 75, 113)), [1, 2])
    with pytest.raises(ValueError, match="regions"):
        pf.pseudo_label(photo, np.zeros((1, 75, 113)), [1], regions=[np.zeros((3, 3), np.uint8)])
    with pytest.raises(UserError, match="zero_shot_classifier: package"):
        pf.zero_shot_classifier([[1]], backbone="resnet50")
