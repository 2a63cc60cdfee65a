from pathlib import Path

import pytest
from PIL import Image
from support.small_runs import command

from pfit_ray.config import load_config


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (40, 30), (90 * number, 80, 70)).save(tmp_path / "photos" / name / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_a_folder_becomes_a_config_that_plans(photos: Path) -> None:
    done = command("init", "photos")
    assert (done.code, done.err) == (0, "")
    assert "4 images in 2 class folders (cat 2, dog 2)" in done.out
    assert load_config("photos.yaml").output == "runs/photos"
    plan = command("plan", "photos.yaml")
    assert plan.code == 0
    assert "classes: 2 (cat, dog)" in plan.out
    assert "of the first 4 images: cat 2, dog 2" in plan.out


def test_nothing_is_overwritten(photos: Path) -> None:
    Path("photos.yaml").write_text("mine")
    done = command("init", "photos")
    assert (done.code, Path("photos.yaml").read_text()) == (2, "mine")
    assert "photos.yaml exists" in done.err
    assert command("init", "photos", "--config", "other.yaml", "--output", "elsewhere").code == 0
    assert load_config("other.yaml").output == "elsewhere"


def test_mistakes_write_nothing(photos: Path) -> None:
    assert command("init", "nowhere").code == 2
    assert command("init", "photos/cat", "--classes", "flumph").code == 2
    assert not list(Path().glob("*.yaml"))
