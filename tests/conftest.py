"""What tests share: a Ray, a finished run, golden data and real photographs; tests without these are skipped.

Ray and torch are imported where they are needed: the process that only hands out tests to two others needs neither.
"""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from PIL import Image
from support.comparisons import refusing_nan
from support.golden import ROOT
from support.places import SHARED
from support.small_runs import QUICKSTART, SMALL, Finished, command, write_label_table, write_photographs

np.testing.assert_allclose = refusing_nan(np.testing.assert_allclose)
np.testing.assert_array_equal = refusing_nan(np.testing.assert_array_equal)

settings.register_profile("untimed", deadline=None)  # the first example may compile, on a busy machine
settings.load_profile("untimed")


WITH_RAY = {"local_ray", "small_run", "finished_run"}
"""Fixtures of tests that one process runs, with the Ray that they share."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole default suite in two processes: one has the tests that need Ray, the other begins with the rest."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and "not slow" in config.option.markexpr
    option = config.option
    other = option.keyword or option.collectonly or option.usepdb or "PYTEST_XDIST_WORKER" in os.environ
    if whole and not other and getattr(option, "numprocesses", 0) is None:
        option.numprocesses, option.dist = 2, "loadgroup"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests with Ray first, for what they wait for takes longest."""
    with_ray = [item for item in items if WITH_RAY & set(getattr(item, "fixturenames", ()))]
    for item in with_ray:
        item.add_marker(pytest.mark.xdist_group("ray"))
    of_them = set(with_ray)
    items[:] = [*with_ray, *(item for item in items if item not in of_them)]


def pytest_sessionstart() -> None:
    """Take Ctrl-C, which some tests send to themselves: what a shell starts in the background ignores it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _one_thread_beside_another_process() -> None:
    """Threads of two processes that wait for each other on two cores would be slower than one."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import cv2
        import torch

        torch.set_num_threads(1)
        cv2.setNumThreads(1)


def _found(variable: str, default: Path, what: str) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        pytest.skip(f"{what} not found at {path}; set {variable} to its place")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with inputs and outputs of the published programs; see `golden.cases` for tests of what lies there."""
    return _found("PFIT_GOLDEN", ROOT, "golden data")


@pytest.fixture(scope="session")
def voc_animals() -> Path:
    """A VOC2012 folder with photographs of six animal classes."""
    return _found("PFIT_VOC_ANIMALS", SHARED / "data" / "voc_animals" / "VOC2012", "VOC-animals photographs")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The machine's Chromium; playwright's event loop, in which no other can run, ends with the module."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def animal_weights() -> Path:
    """Weights of a CAM classifier trained on the VOC-animals photographs."""
    name = "voc_animals_efficientnet_lite0.safetensors"
    return _found("PFIT_WEIGHTS", SHARED / "weights" / name, "classifier weights")


def _place(factory: pytest.TempPathFactory, name: str) -> Path:
    """Folder of a session, or, with PFIT_TEST_RUNS, one that later sessions of the same checkout find again."""
    if kept := os.environ.get("PFIT_TEST_RUNS"):
        folder = Path(kept) / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    return factory.mktemp(name)


def start_local_ray() -> None:
    """Start the session's Ray."""
    import ray

    from pfit_ray.cluster.session import IDLE_WORKER_MS

    os.environ.setdefault(*IDLE_WORKER_MS)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=150 << 20)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray with two CPUs for all tests of the session."""
    import ray

    start_local_ray()
    yield
    ray.shutdown()


class Corpus(NamedTuple):
    """Four good photographs and five inputs that are wrong, with labels and three ground truth masks."""

    root: Path
    labels: Path
    masks: Path

    @property
    def overrides(self) -> list[str]:
        return ["data.source=folder", *(f"data.{name}={path}" for name, path in self._asdict().items())]


@pytest.fixture(scope="session")
def corpus_with_bad_inputs(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Sorted: broken, chelsea, coffee, empty, letter, motorcycle_left, rocket, stranger, unlisted."""
    folder = _place(tmp_path_factory, "photographs")
    corpus = Corpus(folder / "images", folder / "labels.csv", folder / "masks")
    with FileLock(folder / "lock"):
        if not corpus.labels.exists():
            _write_corpus(corpus)
    return corpus


def _write_corpus(corpus: Corpus) -> None:
    root, masks = write_photographs(corpus.root), corpus.masks
    whole = (root / "chelsea.jpg").read_bytes()
    (root / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "empty.jpg").write_bytes(b"")
    (root / "letter.jpg").write_text("Dear photograph, where are you?")
    for name in ("stranger.jpg", "unlisted.jpg"):
        (root / name).write_bytes(whole)
    rows = {name: "cat" for name in ("broken", "chelsea", "empty", "letter")}
    rows |= {"coffee": "cup", "motorcycle_left": "motorbike", "rocket": "rocket", "stranger": "cat;dragon"}
    masks.mkdir()
    for name, class_id in (("chelsea.jpg", 1), ("coffee.png", 2), ("rocket.png", 4)):
        with Image.open(root / name) as photo:
            width, height = photo.size
        truth = np.zeros((height, width), np.uint8)
        truth[height // 4 : -height // 8, width // 4 : -width // 4] = class_id
        truth[:2] = 255
        if name == "rocket.png":
            truth = truth[:-1]
        Image.fromarray(truth).save(masks / f"{name.partition('.')[0]}.png")
    write_label_table(corpus.labels, rows)


class SmallRun(NamedTuple):
    """A finished run, the words of its command line, and what the command said; read only."""

    folder: Path
    words: list[str]
    said: Finished


@pytest.fixture(scope="session")
def small_run(corpus_with_bad_inputs: Corpus, local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """The quickstart config on the small corpus, through all passes and both trainings."""
    return _small_run(corpus_with_bad_inputs, _place(tmp_path_factory, "small"))


def _small_run(corpus: Corpus, place: Path) -> SmallRun:
    folder, told = place / "run", place / "said.json"
    words = ["run", QUICKSTART, *SMALL, *corpus.overrides, "max_failed_fraction=0.6"]
    with FileLock(place / "lock"):  # a process that comes later waits, and finds the run
        if not told.exists():
            said = command(*words, f"output={folder}")
            assert said.code == 0, said
            told.write_text(json.dumps(said))
    return SmallRun(folder, words, Finished(*json.loads(told.read_text())))


@pytest.fixture
def finished_run(request: pytest.FixtureRequest, corpus_with_bad_inputs: Corpus) -> SmallRun:
    """The small run for tests with a Ray of their own; none is started here where an earlier session has made it."""
    kept = os.environ.get("PFIT_TEST_RUNS")
    if kept and (Path(kept) / "small" / "said.json").exists():
        return _small_run(corpus_with_bad_inputs, Path(kept) / "small")
    run: SmallRun = request.getfixturevalue("small_run")
    return run
