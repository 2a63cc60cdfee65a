"""Models of the transformers library with few and random weights, in folders as the hub has them."""

import json
import string
from pathlib import Path
from typing import Any

import torch

_PROMPTS = {"hidden_size": 8, "image_size": 64, "mask_input_channels": 4}
_DECODER = {"hidden_size": 8, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 8, "num_hidden_layers": 1}
_TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_sam(folder: Path) -> Path:
    """SAM with a ViT of two blocks, for images of 64 pixels."""
    from transformers import SamConfig, SamImageProcessor, SamModel

    vision = {"hidden_size": 16, "output_channels": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 64, "patch_size": 8, "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 4}
    prompts = {**_PROMPTS, "patch_size": 8, "image_embedding_size": 8}
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=_DECODER)
    sizes = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}}
    masks = {"mask_size": {"longest_edge": 16}, "mask_pad_size": {"height": 16, "width": 16}}
    return _write(folder, SamModel, config, SamImageProcessor(**sizes, **masks))


def write_sam2(folder: Path) -> Path:
    """SAM 2 with a Hiera of five blocks, for images of 64 pixels."""
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model

    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64]}
    backbone |= {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64]}
    backbone |= {"num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 4, 4]}
    backbone |= {"global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4]}
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 8}
    vision |= {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
    prompts = {**_PROMPTS, "patch_size": 16}
    config = Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=_DECODER)
    processor = Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    return _write(folder, Sam2Model, config, processor)


def write_clip(folder: Path) -> Path:
    """CLIP with two blocks per tower and patches of 8 pixels, whose words are letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    letters = [*string.ascii_lowercase, "."]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer", "model_max_length": 32}')
    first, last = len(words) - 2, len(words) - 1
    text = {**_TOWER, "vocab_size": len(words), "max_position_embeddings": 32, "projection_dim": 16}
    text |= {"bos_token_id": first, "eos_token_id": last, "pad_token_id": last}
    vision = {**_TOWER, "image_size": 32, "patch_size": 8, "projection_dim": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    return _write(folder, CLIPModel, config, CLIPImageProcessor())


def _write(folder: Path, kind: Any, config: Any, processor: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
