"""Small synthetic runs for the explorer, and a browser that asks it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from pfit_ray.config import RunConfig
from pfit_ray.config.load import validate
from pfit_ray.data.sources.item import Item
from pfit_ray.results.explorer.app import make_app
from pfit_ray.results.explorer.state import Explorer
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.manifest import write_manifest
from pfit_ray.tasks.encode import EncodeStage
from pfit_ray.tasks.write import ShardWriter

SIZE = (24, 36)
TOKEN = "a-token-that-nobody-guesses"
HOST = "http://127.0.0.1:8765"


def config_of(run: RunDirectory, *classes: str) -> RunConfig:
    return validate({"output": run.root, "data": {"source": "folder", "root": "images", "classes": list(classes)}})


def write_photo(path: Path) -> str:
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(photo).save(path)
    return str(path)


def ok(pass_name: str, image_id: str, keys: list[int], **scores: float | None) -> dict[str, Any]:
    """The encoded row of a good image; its label map is its last class on the right half."""
    maps = np.linspace(0, 1, len(keys) * 54, dtype=np.float32).reshape(len(keys), 6, 9)
    label = np.zeros(SIZE, np.uint8)
    label[:, SIZE[1] // 2 :] = keys[-1] if keys else 0
    masks = np.ones((len(keys), *SIZE), bool)
    row = {
        "image_id": image_id, "uri": image_id, "height": SIZE[0], "width": SIZE[1], "status": "ok", "keys": keys,
        "key_scores": [0.5] * len(keys), "labels_predicted": False, "label_scores": None, "cam": maps,
        "combined_cam": maps * 2, "regions_slic": label, "regions_quickshift": label, "fit_mask_slic": masks,
        "fit_mask_quickshift": masks, "affinity_label": label, "edge": np.zeros((6, 9), np.float32), "walk": maps,
        "pseudo_label": label, "prediction": label, "mask_agreement": 0.5, "cam_margin": 0.5, "walk_margin": 0.5,
        "margin": 0.5, "crf_change": 0.5, "foreground_share": 0.5, **scores,
    }  # fmt: skip
    EncodeStage(pass_name, "float16").process(row)
    return row


def failed(image_id: str, reason: str) -> dict[str, Any]:
    return {
        "image_id": image_id, "uri": image_id, "status": "failed", "stage": "decode", "reason": reason,
        "message": f"{image_id} is {reason}",
    }  # fmt: skip


def write_run(root: str, items: list[Item], shard_size: int = 2) -> RunDirectory:
    """A run that has listed some images for all passes."""
    run = RunDirectory(root)
    for image_set in ("train", "predict"):
        write_manifest(run, image_set, iter(items), shard_size)
    return run


def finish(run: RunDirectory, pass_name: str, shard: int, *rows: dict[str, Any]) -> None:
    ShardWriter(run, pass_name).write(shard, rows, {})


class Visitor:
    """Asks an explorer as a browser does that has opened its link."""

    def __init__(self, config: RunConfig, run: RunDirectory, *, enter: bool = True, any_host: bool = False) -> None:
        self.explorer = Explorer(config, run)
        self.explorer.refresh()
        app = make_app(self.explorer, TOKEN, any_host=any_host)
        self.client = TestClient(app, base_url=HOST, follow_redirects=False)
        if enter:
            assert self.client.get("/", params={"token": TOKEN}).status_code == 303

    def get(self, path: str, code: int = 200, **words: Any) -> str:
        answer = self.client.get(path, params=words or None)
        assert answer.status_code == code, answer.text
        return answer.text

    def shown(self, **words: Any) -> list[str]:
        """Ids of the images on a page of the list."""
        return [part.partition("<")[0] for part in self.get("/", **words).split('<span class="id">')[1:]]
