"""CAM source: where CLIP's dense features agree with a text."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pfit_ray.config.sources import ClipConfig
from pfit_ray.data.cam_sources.base import CamMaps, CamSource
from pfit_ray.data.hub import HubModel
from pfit_ray.ops.device import pick_device


class ClipCam(CamSource):
    """Dense features of CLIP (Radford et al. 2021), which the values of its last attention give (Zhou et al. 2022,
    MaskCLIP), compared with text prompts of the image's classes and of backgrounds.

    A map is the softmax over these texts at each patch. Where labels are unknown, the whole image is compared with all
    classes. Its quality within the method has not been measured by this package.

    Args:
        options: the fields of `ClipConfig`.
    """  # noqa: D205

    def __init__(self, **options: Any) -> None:
        self.config = ClipConfig.model_validate(options)
        self.model = HubModel(self.config.model, self.config.revision, "cam.source clip")

    def use_classes(self, names: Sequence[str]) -> None:
        """Take the class names, which are the prompts of those without any."""
        unknown = [name for name in self.config.prompts if name not in names]
        if unknown:
            raise ValueError(f"prompts has class {unknown[0]!r}, which data.classes does not list")
        template = self.config.template
        self.prompts = [self.config.prompts.get(name) or [template.format(name)] for name in names]
        self.prompts += [[template.format(name)] for name in self.config.background]

    def setup(self) -> None:
        """Load the network, and compute the features of all texts."""
        import torch
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

        self.device = pick_device()
        self.network = self.model.load_network(CLIPModel.from_pretrained, self.device)
        tokenizer = self.model.load(AutoTokenizer.from_pretrained)
        processor = self.model.load(CLIPImageProcessor.from_pretrained)
        self.mean, self.std = (np.array(numbers, np.float32) for numbers in (processor.image_mean, processor.image_std))
        texts = []
        with torch.inference_mode():
            for prompts in self.prompts:
                tokens = tokenizer(prompts, padding=True, truncation=True, return_tensors="pt").to(self.device)
                texts.append(_unit(_unit(self.network.get_text_features(**tokens).pooler_output).mean(dim=0)))
            self.texts = torch.stack(texts)
            self.scale = self.network.logit_scale.exp()

    def cam(self, image: NDArray[np.uint8], image_id: str, keys: Sequence[int] | None) -> CamMaps:
        """The maps of one image."""
        return self.cam_batch([image], [image_id], [keys])[0]

    def cam_batch(
        self, images: Sequence[NDArray[np.uint8]], image_ids: Sequence[str], keys: Sequence[Sequence[int] | None]
    ) -> list[CamMaps]:
        """The maps of images of one size, which go through the network together, with their mirror images."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(np.stack([self._input(image) for image in images])).to(self.device)
            dense, whole = self._features(torch.cat([batch, batch.flip(-1)]))
            straight, mirrored = dense.chunk(2)
            alike = self.scale * (straight + mirrored.flip(2)) / 2 @ self.texts.T  # (B, h, w, texts)
            scores = (self.scale * whole[: len(images)] @ self.texts.T).softmax(dim=-1)
            return [self._maps(one, score, key) for one, score, key in zip(alike, scores, keys, strict=True)]

    def _maps(self, alike: Any, scores: Any, keys: Sequence[int] | None) -> CamMaps:
        classes = len(self.prompts) - len(self.config.background)
        if keys is None:
            keys = [key + 1 for key in range(classes) if scores[key] >= self.config.min_score]
        if not keys:
            return CamMaps([], np.zeros((0, 1, 1), np.float32), [])
        chosen = [key - 1 for key in keys]
        texts = [*chosen, *range(classes, len(self.prompts))]
        maps = alike[..., texts].softmax(dim=-1)[..., : len(keys)].permute(2, 0, 1)
        return CamMaps(list(keys), maps.float().cpu().numpy(), [float(scores[key]) for key in chosen])

    def _input(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The image, whose longer side is `side`, of whole patches: float32 (3, h, w)."""
        patch = self.network.config.vision_config.patch_size
        factor = self.config.side / max(image.shape[:2])
        height, width = (max(1, round(side * factor / patch)) * patch for side in image.shape[:2])
        shrinks = factor < 1
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        return ((resized.astype(np.float32) / 255 - self.mean) / self.std).transpose(2, 0, 1)

    def _features(self, batch: Any) -> tuple[Any, Any]:
        """Unit features of the patches (B, h, w, C) and of the whole images (B, C)."""
        vision, patch = self.network.vision_model, self.network.config.vision_config.patch_size
        hidden = vision.pre_layrnorm(vision.embeddings(batch, interpolate_pos_encoding=True))
        *layers, last = vision.encoder.layers
        for layer in layers:
            hidden = layer(hidden, None)
        values = hidden + last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(hidden)))
        values = values + last.mlp(last.layer_norm2(values))
        dense, whole = (
            _unit(self.network.visual_projection(vision.post_layernorm(one)))
            for one in (values[:, 1:], last(hidden, None)[:, 0])
        )
        return dense.unflatten(1, (batch.shape[2] // patch, batch.shape[3] // patch)), whole


def _unit(features: Any) -> Any:
    return features / features.norm(dim=-1, keepdim=True)
