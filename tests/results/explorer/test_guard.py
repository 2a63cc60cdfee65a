import re
from pathlib import Path

import pytest
from PIL import Image
from starlette.datastructures import Headers
from support.explorer_run import HOST, SIZE, TOKEN, Visitor, config_of, failed, finish, ok, write_photo, write_run

from pfit_ray.data.sources.item import Item
from pfit_ray.results.explorer.guard import csrf_token, is_loopback, own_origin, same
from pfit_ray.rundir.directory import RunDirectory
from pfit_ray.rundir.review import run_marks

BAD = "<script>alert('1')</script>"
PATHS = (
    "/",
    "/image?id=a",
    "/photo?id=a",
    "/layer?id=a&stage=cam",
    "/small?id=a",
    "/state",
    "/static/explorer.js",
    "/x",
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Images "a", "b" and one whose id is markup; "passwd" is a text file outside the run."""
    uri = write_photo(tmp_path / "a.png")
    (tmp_path / "secret.txt").write_text("root:x:0:0")
    items = [
        Item("a", uri, (1,)),
        Item("b", uri, (1,)),
        Item(BAD, uri, (1,)),
        Item("passwd", str(tmp_path / "secret.txt")),
    ]
    run = write_run(str(tmp_path / "run"), items)
    finish(run, "seeds", 0, ok("seeds", "a", [1]), failed("b", BAD))
    return run


@pytest.fixture
def visitor(run: RunDirectory) -> Visitor:
    return Visitor(config_of(run, BAD), run)


@pytest.mark.parametrize("path", PATHS)
def test_nothing_without_the_token(run: RunDirectory, path: str) -> None:
    visitor = Visitor(config_of(run, "cat"), run, enter=False)
    for address in (path, f"{path}{'&' if '?' in path else '?'}token=wrong"):
        answer = visitor.client.get(address)
        assert (answer.status_code, answer.headers.get("set-cookie")) == (403, None)
        assert "Open the link that pfit-ray serve has printed" in answer.text
        assert run.root not in answer.text
    visitor.client.cookies.set("pfit_ray", "wrong")
    assert visitor.client.get(path).status_code == 403
    assert (
        visitor.client.post("/mark", data={"id": "a", "mark": "accept", "csrf": csrf_token(TOKEN)}).status_code == 403
    )
    assert run_marks(run) == {}


def test_the_link_becomes_a_cookie_and_leaves_the_address(run: RunDirectory) -> None:
    visitor = Visitor(config_of(run, "cat"), run, enter=False)
    answer = visitor.client.get("/image", params={"id": "a b", "token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/image?id=a+b")
    assert re.search(r"HttpOnly;.*SameSite=lax", answer.headers["set-cookie"])
    assert visitor.client.get("/image", params={"id": "a"}).status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/%5Cevil.example", "/%5C/evil.example"])
def test_the_link_leads_to_no_other_site(run: RunDirectory, path: str) -> None:
    visitor = Visitor(config_of(run, "cat"), run, enter=False)
    there = visitor.client.get(f"{HOST}{path}?token={TOKEN}").headers["location"]
    assert re.match(r"/[^/\\]", there)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "[::2]", "[", ""])
def test_foreign_hosts_are_refused(visitor: Visitor, host: str) -> None:
    answer = visitor.client.get("/", headers={"host": host})
    assert (answer.status_code, answer.text) == (421, "The explorer answers to localhost and loopback addresses only.")


def test_names_of_this_machine_are_not(visitor: Visitor, run: RunDirectory) -> None:
    for host in ("localhost", "localhost:9000", "127.0.0.1:8765", "[::1]:8765"):
        cookie = {"cookie": f"pfit_ray={TOKEN}", "host": host}
        assert visitor.client.get("/", headers=cookie).status_code == 200
    elsewhere = Visitor(config_of(run, "cat"), run, any_host=True)
    cookie = {"cookie": f"pfit_ray={TOKEN}", "host": "node7:8765"}
    assert elsewhere.client.get("/", headers=cookie).status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_headers_of_every_page(visitor: Visitor, path: str) -> None:
    answer = visitor.client.get(path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith(("no-store", "private"))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_forms_of_other_sites_are_refused(visitor: Visitor, run: RunDirectory, headers: dict[str, str]) -> None:
    form = {"id": "a", "mark": "accept", "csrf": csrf_token(TOKEN)}
    assert visitor.client.post("/mark", data=form, headers=headers).status_code == 403
    assert visitor.client.post("/refresh", data=form, headers=headers).status_code == 403
    assert run_marks(run) == {}
    assert visitor.client.post("/mark", data=form, headers={"origin": HOST}).status_code == 303
    assert list(run_marks(run)) == ["a"]


@pytest.mark.parametrize("csrf", [None, "", "wrong", csrf_token("another token"), "é"])
def test_forms_without_the_secret_are_refused(visitor: Visitor, run: RunDirectory, csrf: str | None) -> None:
    form = {"id": "a", "mark": "accept"} | ({} if csrf is None else {"csrf": csrf})
    for path in ("/mark", "/refresh"):
        answer = visitor.client.post(path, data=form)
        assert (answer.status_code, answer.text) == (403, "This form is not of this explorer; load its page again.")
    assert visitor.client.get("/mark", params=form).status_code == 405
    assert run_marks(run) == {}


def test_large_forms_are_refused(visitor: Visitor) -> None:
    form = {"id": "a", "mark": "accept", "csrf": csrf_token(TOKEN), "back": "x" * 70_000}
    assert visitor.client.post("/mark", data=form).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2f..%2f__init__.py",
        "/static/../../../etc/passwd",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/run/config.yaml",
        "/image?id=../../secret.txt",
        "/photo?id=..%2F..%2Fsecret.txt",
        "/photo?id=/etc/passwd",
        "/small?id=a&stage=../../../secret",
        "/layer?id=a&stage=regions@../../x",
        "/layer?id=a&stage=fit_mask@",
        "/layer?id=a&stage=label_offset",
        "/layer?id=a&stage=cam&key=7",
        "/layer?id=a&stage=prediction",
        "/layer?id=a",
    ],
)
def test_nothing_outside_the_run(visitor: Visitor, path: str) -> None:
    answer = visitor.client.get(path)
    assert answer.status_code == 404
    assert "This did not work" in answer.text
    assert "root:" not in answer.text


def test_a_listed_file_that_is_no_image_is_not_shown(visitor: Visitor) -> None:
    """A manifest may name any file; only pictures of it leave the server."""
    answer = visitor.client.get("/photo", params={"id": "passwd"})
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "no picture: unreadable" in answer.text
    assert "root:" not in answer.text


def test_hostile_names_are_escaped(visitor: Visitor) -> None:
    for path, words in (
        ("/", {}),
        ("/", {"text": f'">{BAD}', "reason": BAD, "sort": BAD, "class": BAD}),
        ("/image", {"id": "a", "stage": f'"{BAD}', "key": BAD}),
        ("/image", {"id": "b"}),
        ("/image", {"id": BAD, "text": BAD}),
    ):
        text = visitor.get(path, **words)
        assert "alert" in text
        assert "<script>" not in text
        assert text.count("<script") == 1  # the explorer's own, by its address
    assert "<script" not in visitor.get("/photo", 404, id=f"{BAD}x").replace('<script src="/static/', "")


def test_only_marks_are_written(visitor: Visitor, run: RunDirectory) -> None:
    root = Path(run.root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    for path in PATHS:
        visitor.client.get(path)
    form = {"id": "a", "mark": "reject", "csrf": csrf_token(TOKEN)}
    assert visitor.client.post("/mark", data=form).status_code == 303
    assert visitor.client.post("/refresh", data=form).status_code == 303
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert [path.parent.relative_to(root).as_posix() for path in after.keys() - before.keys()] == ["review"]
    assert before.items() <= after.items()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods(visitor: Visitor, method: str) -> None:
    assert visitor.client.request(method, "/mark").status_code == 405


def test_secrets() -> None:
    assert same("é", "é")
    assert not same("", "a")
    assert csrf_token("a") != csrf_token("b")
    assert own_origin(Headers({"host": "x:1", "origin": "http://x:1"}))
    assert not own_origin(Headers({"host": "x:1", "origin": "http://x"}))


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True),
                           ("0.0.0.0", False), ("10.0.0.1", False), ("node7", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_large_photographs_are_made_smaller(visitor: Visitor, tmp_path: Path) -> None:
    Image.new("RGB", (SIZE[1] * 100, SIZE[0] * 100)).save(tmp_path / "a.png")
    (tmp_path / "x.jpg").write_bytes(visitor.client.get("/photo", params={"id": "a"}).content)
    with Image.open(tmp_path / "x.jpg") as photo:
        assert photo.size == (1280, 853)
