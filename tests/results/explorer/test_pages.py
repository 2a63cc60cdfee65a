import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.explorer_run import TOKEN, Visitor, config_of, failed, finish, ok, write_photo, write_run
from support.page_tags import Tags
from support.small_runs import command, one_sentence

from pfit_ray.data.sources.item import Item
from pfit_ray.results.explorer import app
from pfit_ray.results.explorer.guard import csrf_token
from pfit_ray.rundir.directory import RunDirectory, open_run
from pfit_ray.rundir.review import run_marks

JSON = {"accept": "application/json", "x-csrf-token": csrf_token(TOKEN)}


@pytest.fixture
def small(small_run, tmp_path: Path) -> Visitor:
    """The finished small run, copied."""
    shutil.copytree(small_run.folder, tmp_path / "run")
    directory, config = open_run(str(tmp_path / "run"))
    return Visitor(config, directory)


def test_the_list_of_a_finished_run(small: Visitor) -> None:
    names = ["broken", "chelsea", "coffee", "empty", "letter", "motorcycle_left", "rocket", "stranger", "unlisted"]
    assert small.shown() == names
    assert small.shown(status="ok") == ["chelsea", "coffee", "motorcycle_left", "rocket"]
    assert small.shown(reason="unreadable") == ["broken", "letter"]
    assert small.shown(**{"class": "4"}) == ["rocket"]
    assert small.shown(text="CO") == ["coffee"]
    margins = {name: small.explorer.index.scores["predict.margin"][small.explorer.index.row(name)] for name in names}
    known = [name for name in names if margins[name] >= 0]
    assert small.shown(sort="predict.margin")[: len(known)] == sorted(known, key=lambda name: margins[name])
    assert "No image is like this" in small.get("/", text="nobody")
    page = Tags(small.get("/", status="ok"))
    assert [one["value"] for one in page.of("option", selected=None)] == ["ok", "listed"]  # type: ignore[arg-type]
    assert all(one["alt"] is not None and one["src"].startswith("/small?") for one in page.of("img"))


def test_every_stage_of_an_image(small: Visitor) -> None:
    page = Tags(small.get("/image", id="chelsea"))
    stages = [one["data-stage"] for one in page.of("a") if "data-stage" in one]
    assert stages == [
        "image", "cam", "regions@slic", "regions@quickshift", "perimeters@slic", "perimeters@quickshift",
        "fit_mask@slic", "fit_mask@quickshift", "combined_cam", "affinity_label", "edge", "walk", "pseudo_label",
        "prediction", "ground_truth",
    ]  # fmt: skip
    (chosen,) = [one for one in page.of("a") if one.get("aria-current")]
    assert chosen["data-stage"] == "prediction"
    photo = picture(small, "/photo?id=chelsea")
    for one in page.of("a"):
        if one.get("data-layer"):
            assert picture(small, str(one["data-layer"])).size == photo.size
    for one in page.of("img"):
        if one.get("src"):
            assert picture(small, str(one["src"])).size == photo.size


def picture(visitor: Visitor, address: str) -> Image.Image:
    answer = visitor.client.get(address)
    assert (answer.status_code, answer.headers["content-type"][:6]) == (200, "image/")
    return Image.open(io.BytesIO(answer.content))


def test_what_failed_is_told(small: Visitor) -> None:
    text = small.get("/image", id="broken")
    assert "seeds, stage decode: unreadable" in text
    assert "no picture: unreadable" in small.get("/photo", id="broken")
    assert "source, stage list: no_label" in small.get("/image", id="unlisted")
    assert "What failed" not in small.get("/image", id="chelsea")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Five good images of two classes, "broken" and an image of pass predict alone."""
    uri = write_photo(tmp_path / "photo.png")
    Image.fromarray(np.full((24, 36), 2, np.uint8)).save(tmp_path / "mask.png")
    Image.fromarray(np.full((24, 30), 2, np.uint8)).save(tmp_path / "bad.png")
    masks = {"i0": str(tmp_path / "mask.png"), "i1": str(tmp_path / "bad.png")}
    items = [Item(f"i{number}", uri, (1, 2), masks.get(f"i{number}")) for number in range(5)]
    run = write_run(str(tmp_path / "run"), [*items, Item("broken", uri, (1,))], shard_size=8)
    rows = [ok("seeds", f"i{number}", [1, 2], mask_agreement=number / 4) for number in range(5)]
    finish(run, "seeds", 0, *rows, failed("broken", "unreadable"))
    return run


@pytest.fixture
def visitor(run: RunDirectory) -> Visitor:
    return Visitor(config_of(run, "cat", "dog"), run)


def test_cams_of_each_class(visitor: Visitor) -> None:
    page = Tags(visitor.get("/image", id="i2", stage="cam", key="2"))
    captions = [one["data-caption"] for one in page.of("a") if one.get("data-stage") == "cam"]
    assert captions == ["CAM", "CAM: cat", "CAM: dog"]
    (chosen,) = [one for one in page.of("a") if one.get("aria-current")]
    assert chosen["data-caption"] == "CAM: dog"
    pictures = [np.asarray(picture(visitor, f"/layer?id=i2&stage=cam&key={key}")).astype(int) for key in (1, 2)]
    assert pictures[0][0, 0, 2] > pictures[0][0, 0, 0]  # low is blue
    assert pictures[1][-1, -1, 0] > pictures[1][-1, -1, 2]  # high is red
    strongest = np.asarray(picture(visitor, "/layer?id=i2&stage=cam"))
    assert np.array_equal(strongest, pictures[1])
    assert np.array_equal(strongest, np.asarray(picture(visitor, "/layer?id=i2&stage=combined_cam")))


def test_label_maps_are_transparent_where_there_is_background(visitor: Visitor) -> None:
    layer = np.asarray(picture(visitor, "/layer?id=i2&stage=affinity_label"))
    assert layer.shape == (24, 36, 4)
    assert layer[:, :17, 3].max() == 0
    assert (layer[:, 18:] == (0, 128, 0, 255)).all()
    photo, small = (np.asarray(picture(visitor, f"/small?id=i2{stage}")) for stage in ("", "&stage=affinity_label"))
    assert np.abs(photo[:, :8].astype(int) - small[:, :8]).max() < 40  # of different JPEGs
    assert (small[4:20, 22:32, 1].mean() - photo[4:20, 22:32, 1].mean()) != 0


def test_ground_truth(visitor: Visitor) -> None:
    truth = np.asarray(picture(visitor, "/layer?id=i0&stage=ground_truth")).astype(int)
    assert np.abs(truth - (0, 128, 0)).max() <= 2  # of a JPEG
    assert "no picture: bad_mask" in visitor.get("/layer", id="i1", stage="ground_truth")
    visitor.get("/layer", 404, id="i2", stage="ground_truth")


def test_the_way_through_what_was_found(visitor: Visitor) -> None:
    words = {"class": "2", "sort": "seeds.mask_agreement", "descending": "1"}
    assert visitor.shown(**words) == ["i4", "i3", "i2", "i1", "i0"]
    text = visitor.get("/image", id="i3", stage="cam", **words)
    links = {one.get("id"): str(one["href"]) for one in Tags(text).of("a")}
    assert "2 of 5 found" in text
    assert [("id=i4" in links["previous"]), ("id=i2" in links["next"])] == [True, True]
    assert all(f"{name}={value}" in links["next"] for name, value in {**words, "stage": "cam", "at": "2"}.items())
    assert "next" not in {one.get("id") for one in Tags(visitor.get("/image", id="i0", **words)).of("a")}


def test_the_next_image_after_a_mark_has_hidden_this_one(visitor: Visitor) -> None:
    assert visitor.shown(mark="none", sort="id") == ["broken", "i0", "i1", "i2", "i3", "i4"]
    form = {"id": "i1", "mark": "accept", "csrf": csrf_token(TOKEN), "back": "mark=none&sort=id&at=2"}
    answer = visitor.client.post("/mark", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/image?mark=none&sort=id&at=2&id=i1")
    text = visitor.get(answer.headers["location"])
    assert "not among the 5 found" in text
    links = {one.get("id"): str(one["href"]) for one in Tags(text).of("a")}
    assert "id=i0" in links["previous"]
    assert "id=i2&at=2" in links["next"]


def test_marks_are_kept_and_taken_away(visitor: Visitor, run: RunDirectory) -> None:
    for image_id, mark in (("i0", "accept"), ("i1", "reject"), ("i2", "needs_work"), ("i1", "accept")):
        answer = visitor.client.post("/mark", data={"id": image_id, "mark": mark}, headers=JSON)
        assert answer.json()["mark"] == mark
    assert {name: one.mark for name, one in run_marks(run).items()} == {
        "i0": "accept", "i1": "accept", "i2": "needs_work",
    }  # fmt: skip
    assert "Marks: 2 accepted, 0 rejected, 1 needs work." in " ".join(visitor.get("/").split())
    assert visitor.shown(mark="accept") == ["i0", "i1"]
    (pressed,) = Tags(visitor.get("/image", id="i2")).of("button", **{"aria-pressed": "true"})
    assert pressed["value"] == "needs_work"
    visitor.client.post("/mark", data={"id": "i0", "mark": "none"}, headers=JSON)
    assert sorted(run_marks(run)) == ["i1", "i2"]
    again = Visitor(visitor.explorer.config, run)
    assert again.shown(mark="needs_work") == ["i2"]


@pytest.mark.parametrize(("image_id", "mark"), [("nobody", "accept"), ("i0", "good"), ("i0", ""), ("", "accept")])
def test_marks_that_are_none(visitor: Visitor, run: RunDirectory, image_id: str, mark: str) -> None:
    assert visitor.client.post("/mark", data={"id": image_id, "mark": mark}, headers=JSON).status_code == 404
    assert run_marks(run) == {}


def test_a_mark_that_storage_does_not_take_is_told(visitor: Visitor, run: RunDirectory) -> None:
    Path(run.root, "review").write_text("in the way")
    answer = visitor.client.post("/mark", data={"id": "i0", "mark": "accept"}, headers=JSON)
    assert answer.status_code == 503
    assert "a part of this path is a file, not a folder" in answer.text
    assert visitor.shown(mark="accept") == []


def test_pages_of_a_long_list(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "PAGE", 4)
    assert visitor.shown() == ["i0", "i1", "i2", "i3"]
    assert visitor.shown(page="2") == ["i4", "broken"]
    assert visitor.shown(page="99") == ["i4", "broken"]
    assert visitor.shown(page="-1") == visitor.shown(page="x") == visitor.shown()


def test_new_results_and_marks_of_others_are_found(visitor: Visitor, run: RunDirectory) -> None:
    other = Visitor(visitor.explorer.config, run)
    other.client.post("/mark", data={"id": "i4", "mark": "reject"}, headers=JSON)
    finish(run, "labels", 0, *(ok("labels", f"i{number}", [1, 2], walk_margin=0.25) for number in range(5)))
    assert visitor.shown(mark="reject") == []
    answer = visitor.client.post("/refresh", data={"csrf": csrf_token(TOKEN), "back": "sort=id&page=1"})
    assert answer.headers["location"] == "/?sort=id&page=1"
    assert visitor.shown(mark="reject") == ["i4"]
    assert visitor.shown(score="labels.walk_margin", high="0.3", text="i") == ["i0", "i1", "i2", "i3", "i4"]
    assert visitor.client.get("/state").json() == {"reading": False, "done": 1, "todo": 1, "problems": []}


def test_a_run_in_a_bucket(tmp_path: Path) -> None:
    run = write_run("memory://explorer-pages/run", [Item("a", write_photo(tmp_path / "a.png"), (1,))])
    finish(run, "seeds", 0, ok("seeds", "a", [1]))
    visitor = Visitor(config_of(run, "cat"), run)
    assert visitor.client.post("/mark", data={"id": "a", "mark": "accept"}, headers=JSON).status_code == 200
    assert list(run_marks(run)) == ["a"]
    assert visitor.shown(mark="accept") == ["a"]
    assert picture(visitor, "/layer?id=a&stage=affinity_label").size == (36, 24)


def test_pictures_that_a_browser_keeps_are_those_of_this_explorer(visitor: Visitor, run: RunDirectory) -> None:
    def addresses() -> set[str]:
        return {str(one.get("src")) for one in Tags(visitor.get("/image", id="i0")).of("img")}

    before = addresses()
    assert before == addresses()
    finish(run, "labels", 0, ok("labels", "i0", [1, 2]))
    visitor.explorer.refresh()
    assert not before & addresses()


def test_a_photograph_that_is_gone(visitor: Visitor, tmp_path: Path) -> None:
    (tmp_path / "photo.png").unlink()
    assert "no picture: missing" in visitor.get("/small", id="i0", stage="affinity_label")
    assert "Stages" in visitor.get("/image", id="i0")


def test_the_command_serves_on_loopback(run: RunDirectory, tmp_path: Path) -> None:
    config = "output: {0}\ndata: {{source: folder, root: {1}, classes: [cat, dog]}}\n"
    Path(run.root, "config.yaml").write_text(config.format(run.root, tmp_path / "images"))
    words = [sys.executable, "-c", "from pfit_ray.cli.app import main; main()", "serve", run.root, "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        link = server.stdout.readline().split()[-1]
        assert link.startswith("http://127.0.0.1:")
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        for _ in range(100):
            with opener.open(link, timeout=60) as answer:
                text = answer.read().decode()
            if "data-reading" not in text:
                break
            time.sleep(0.1)
        assert "i3" in text
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(link.partition("?")[0], timeout=60)
    finally:
        server.terminate()
        server.wait(timeout=60)
        if server.stdout:
            server.stdout.close()


def test_mistakes_on_the_command_line_are_one_sentence(run: RunDirectory, tmp_path: Path) -> None:
    assert "is not a run directory" in one_sentence(command("serve", str(tmp_path / "nothing")))
    Path(run.root, "config.yaml").write_text(f"output: {run.root}\ndata: {{source: samples}}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = one_sentence(command("serve", run.root, "--port", str(port)))
    assert said.startswith(f"serve: 127.0.0.1 port {port} is not available (")
    assert said.endswith("; choose another --port, or 0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "uvicorn", None)
        said = one_sentence(command("serve", run.root))
    assert said == "serve: the explorer needs starlette and uvicorn; pip install 'pfit-ray[explorer]'"
