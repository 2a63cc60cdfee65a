from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_models import write_clip

from pfit_ray.config.stages import CamConfig
from pfit_ray.data.cam_sources import make_cam_source
from pfit_ray.data.cam_sources.clip import ClipCam
from pfit_ray.errors import UserError

pytest.importorskip("transformers", reason='transformers is not installed: pip install "pfit-ray[foundation]"')
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)
CLASSES = ["cat", "dog", "cow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "model")


def source(folder: Path, **options: object) -> ClipCam:
    config = CamConfig(source="clip", options={"model": str(folder), "side": 64, **options})
    made = make_cam_source(config, CLASSES)
    assert isinstance(made, ClipCam)
    made.setup()
    return made


def test_maps_of_the_classes_of_the_label(folder: Path) -> None:
    clip = source(folder)
    found = clip.cam(IMAGE, "a", [1, 3])
    assert found.keys == [1, 3]
    assert found.maps.shape == (2, 6, 8)  # 64 pixels in patches of 8, and 51.2 in six of them
    assert found.maps.min() > 0
    assert (found.maps.sum(axis=0) < 1).all()  # the backgrounds have the rest
    again = source(folder).cam(IMAGE, "b", [1, 3])
    np.testing.assert_array_equal(again.maps, found.maps)
    alone = source(folder, background=[]).cam(IMAGE, "a", [2])
    np.testing.assert_array_equal(alone.maps, 1)  # nothing else to be
    mirrored = clip.cam(IMAGE[:, ::-1].copy(), "a", [1, 3]).maps[..., ::-1]
    np.testing.assert_allclose(mirrored, found.maps, atol=1e-5)


def test_images_together_are_as_each_alone(folder: Path) -> None:
    clip = source(folder, min_score=0.01)
    images = [IMAGE, IMAGE[::-1].copy(), np.full_like(IMAGE, 90)]
    keys = [[2], None, [1, 2, 3]]
    together = clip.cam_batch(images, ["a", "b", "c"], keys)
    for one, image, label in zip(together, images, keys, strict=True):
        alone = clip.cam(image, "a", label)
        assert one.keys == alone.keys
        np.testing.assert_allclose(one.maps, alone.maps, atol=1e-5)
        np.testing.assert_allclose(one.scores, alone.scores, atol=1e-5)


def test_labels_that_are_not_known(folder: Path) -> None:
    shares = source(folder).cam(IMAGE, "a", [1, 2, 3]).scores
    best = int(np.argmax(shares)) + 1
    found = source(folder, min_score=float(np.max(shares)) - 1e-6).cam(IMAGE, "a", None)
    assert found.keys == [best]
    assert found.scores == [pytest.approx(np.max(shares))]
    assert source(folder, min_score=1.0).cam(IMAGE, "a", None).keys == []


def test_features_are_those_of_the_network(folder: Path) -> None:
    """Whole images as transformers has them; patches whose last attention looks at themselves alone, counted out."""
    clip = source(folder)
    batch = torch.from_numpy(clip._input(IMAGE))[None]
    with torch.inference_mode():
        dense, whole = clip._features(batch)
        theirs = clip.network.get_image_features(batch, interpolate_pos_encoding=True).pooler_output
        last = clip.network.vision_model.encoder.layers[-1]
        last.self_attn.forward = lambda hidden_states, **_: (
            last.self_attn.out_proj(last.self_attn.v_proj(hidden_states)),
            None,
        )
        hidden = clip.network.vision_model(batch, interpolate_pos_encoding=True).last_hidden_state[0, 1:]
        expected = clip.network.visual_projection(clip.network.vision_model.post_layernorm(hidden))
    np.testing.assert_allclose(whole, theirs / theirs.norm(dim=-1, keepdim=True), atol=1e-6)
    np.testing.assert_allclose(dense[0].flatten(0, 1), expected / expected.norm(dim=-1, keepdim=True), atol=1e-6)


def test_prompts(folder: Path) -> None:
    clip = source(folder, prompts={"dog": ["a hound", "a puppy"]}, template="one {}", background=["sky"])
    assert clip.prompts == [["one cat"], ["a hound", "a puppy"], ["one cow"], ["one sky"]]
    assert clip.texts.shape == (4, 16)
    with pytest.raises(UserError, match=r"prompts has class 'horse', which data.classes does not list"):
        source(folder, prompts={"horse": ["a horse"]})


def test_options_that_mean_nothing() -> None:
    for options, message in [
        ({}, "model"),
        ({"model": "a/b", "template": "a photo"}, "template must hold"),
        ({"model": "a/b", "template": "a {0}"}, "template must hold"),
        ({"model": "a/b", "prompts": {"cat": []}}, "no text for class 'cat'"),
    ]:
        with pytest.raises(ValueError, match=message):
            CamConfig(source="clip", options=options)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cam.source clip: .* must be a folder with config.json"):
        make_cam_source(CamConfig(source="clip", options={"model": str(tmp_path)}), CLASSES)
