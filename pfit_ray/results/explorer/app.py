"""The explorer's pages."""

from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, urlencode

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from pfit_ray.config import PASSES
from pfit_ray.constants import REASONS, voc_palette
from pfit_ray.errors import RowError, UserError
from pfit_ray.results.explorer.guard import CSRF_FIELD, CSRF_HEADER, Guard, csrf_token, foreign_form, same
from pfit_ray.results.explorer.index import OK, SCORE_NAMES, STATUS_NAMES, Index
from pfit_ray.results.explorer.layers import OPACITY, Layer, UnknownLayerError, caption
from pfit_ray.results.explorer.query import ORDERS, UNMARKED, Query
from pfit_ray.results.explorer.state import Explorer
from pfit_ray.rundir.directory import LABEL_COLUMN
from pfit_ray.rundir.review import MARKS

PAGE = 60
"""Images on one page."""

MARK_NAMES = {"accept": "accepted", "reject": "rejected", "needs_work": "needs work", UNMARKED: "not marked"}
_MAX_FORM = 1 << 16
_PICTURE_SECONDS = 300


def make_app(explorer: Explorer, token: str, *, cookie: str = "pfit_ray", any_host: bool = False) -> Guard:
    """The web application.

    Args:
        explorer: what it shows.
        token: what its start-up link carries.
        cookie: name of its cookie.
        any_host: see `Guard`.
    """
    pages = _Pages(explorer, token)
    files = {
        name: resources.files("pfit_ray.results.explorer").joinpath("static", name).read_bytes() for name in _TYPES
    }
    files["classes.css"] = _class_colours()

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return pages.missing(f"there is no file {name!r}")
        kind = _TYPES.get(name, "text/css")
        return Response(files[name], media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    app = Starlette(
        routes=[
            Route("/", pages.listing),
            Route("/image", pages.image),
            Route("/photo", pages.photo),
            Route("/layer", pages.layer),
            Route("/small", pages.small),
            Route("/state", pages.state),
            Route("/mark", pages.mark, methods=["POST"]),
            Route("/refresh", pages.refresh, methods=["POST"]),
            Route("/static/{name}", static),
        ],
        exception_handlers={
            404: lambda request, error: pages.missing("there is no such page"),
            UnknownLayerError: lambda request, error: pages.missing(str(error)),
            RowError: lambda request, error: pages.failed(str(error)),
            UserError: lambda request, error: pages.failed(str(error)),
        },
    )
    return Guard(app, token, cookie, any_host)


_TYPES = {"explorer.css": "text/css", "explorer.js": "text/javascript", "icon.svg": "image/svg+xml"}


class _Pages:
    """What is answered to each request."""

    def __init__(self, explorer: Explorer, token: str) -> None:
        self._explorer = explorer
        self._csrf = csrf_token(token)
        environment = Environment(
            loader=PackageLoader("pfit_ray.results.explorer"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
        )
        environment.globals.update(
            root=explorer.run.root,
            csrf=self._csrf,
            class_name=explorer.config.data.class_list.name,
            classes=explorer.config.data.class_list.names,
            mark_names=MARK_NAMES,
            marks=MARKS,
            status_names=STATUS_NAMES,
            score_names=SCORE_NAMES,
            orders=ORDERS,
            reasons=REASONS,
            opacity=round(100 * OPACITY),
            link=_link,
            words=_words,
            no_query=Query(),
        )
        self._templates = environment

    def listing(self, request: Request) -> Response:
        """The page of filters and small pictures."""
        explorer, index = self._explorer, self._explorer.index
        query = Query.parse(request.query_params)
        found = explorer.find(query)
        pages = max(1, -(-len(found) // PAGE))
        page = min(max(1, _whole(request.query_params.get("page", ""), 1)), pages)
        first = (page - 1) * PAGE
        statuses, codes = index.statuses(), index.reason_codes()
        cards = []
        for place, row in enumerate(found[first : first + PAGE].tolist(), start=first):
            code = codes[row]
            cards.append(
                {
                    "id": index.ids[row].as_py(),
                    "at": place,
                    "keys": index.keys(row),
                    "status": STATUS_NAMES[statuses[row]],
                    "reason": index.reasons[code] if code >= 0 else "",
                    "score": _score(index, query, row),
                    "mark": explorer.mark_of(row),
                    "stage": self._best_stage(row),
                }
            )
        return self._page(
            "listing.html.j2", query=query, cards=cards, found=len(found), total=len(index), page=page, pages=pages,
            first=first, mark_counts=explorer.mark_counts(), known_reasons=sorted(index.reasons), **self._progress(),
        )  # fmt: skip

    def image(self, request: Request) -> Response:
        """The page of one image."""
        explorer, index = self._explorer, self._explorer.index
        row, query = self._row(request), Query.parse(request.query_params)
        layers = explorer.pictures.layers(row)
        chosen = _chosen(layers, _layer(request) or Layer(self._best_stage(row)))
        found = explorer.find(query)
        place, inside = _place(found, row, _whole(request.query_params.get("at", ""), 0))
        around = {"previous": place - 1, "next": place + 1 if inside else place}
        near = {
            name: (index.ids[int(found[at])].as_py(), at) for name, at in around.items() if 0 <= at < len(found)
        }  # fmt: skip
        code = index.reason_codes()[row]
        return self._page(
            "image.html.j2", query=query, image_id=index.ids[row].as_py(), at=place, inside=inside, found=len(found),
            layers=[(one, caption(one, explorer.config)) for one in layers], chosen=chosen, near=near,
            chosen_stage=request.query_params.get("stage", ""), chosen_class=request.query_params.get("key", ""),
            keys=index.keys(row), mark=explorer.mark_of(row), status=STATUS_NAMES[index.statuses()[row]],
            reason=index.reasons[code] if code >= 0 else "", failures=explorer.pictures.failures(row),
            scores={name: float(index.scores[name][row]) for name in SCORE_NAMES if index.scores[name][row] >= 0},
            back=place // PAGE + 1,
        )  # fmt: skip

    def photo(self, request: Request) -> Response:
        """The image itself."""
        row = self._row(request)
        return _picture(*self._explorer.draw(lambda: (self._explorer.pictures.image(row), "image/jpeg")))

    def layer(self, request: Request) -> Response:
        """One stage in the image's size."""
        row, layer = self._row(request), _layer(request)
        if layer is None:
            raise UnknownLayerError("no stage is named")
        return _picture(*self._explorer.draw(lambda: self._explorer.pictures.layer(row, layer)))

    def small(self, request: Request) -> Response:
        """A small picture of one stage over the image."""
        row, layer = self._row(request), _layer(request)
        return _picture(*self._explorer.draw(lambda: (self._explorer.pictures.small(row, layer), "image/jpeg")))

    def state(self, request: Request) -> Response:
        """How far the reading of results is."""
        return JSONResponse(self._progress())

    async def mark(self, request: Request) -> Response:
        """Store a mark."""
        form = await self._form(request)
        word = form.get("mark", "")
        if form.get(CSRF_FIELD) is None:
            return foreign_form()
        row = self._explorer.index.row(form.get("id", ""))
        if row is None or word not in (*MARKS, UNMARKED):
            return self.missing("there is no such image or mark")
        mark = next((one for one in MARKS if one == word), None)
        await run_in_threadpool(self._explorer.mark, row, mark)
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse({"mark": word, "name": MARK_NAMES[word]})
        words = dict(parse_qsl(form.get("back", ""), max_num_fields=20))
        return RedirectResponse("/image?" + urlencode(words | {"id": form["id"]}), 303)

    async def refresh(self, request: Request) -> Response:
        """Look for new results."""
        form = await self._form(request)
        if form.get(CSRF_FIELD) is None:
            return foreign_form()
        await run_in_threadpool(self._explorer.refresh_aside, 2.0)
        words = dict(parse_qsl(form.get("back", ""), max_num_fields=20))
        return RedirectResponse("/?" + urlencode(words), 303)

    def missing(self, text: str) -> Response:
        """The answer where something is not there."""
        return self._page("message.html.j2", 404, text=text)

    def failed(self, text: str) -> Response:
        """The answer where storage does not give what it should, or does not take a mark."""
        return self._page("message.html.j2", 503, text=text)

    async def _form(self, request: Request) -> dict[str, str]:
        """Fields of a form with the explorer's own secret; none of one without."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_FORM:
                return {}
        try:
            form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
        except ValueError:
            return {}
        given = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD, "")
        return {**form, CSRF_FIELD: given} if same(given, self._csrf) else {}

    def _row(self, request: Request) -> int:
        image_id = request.query_params.get("id", "")
        row = self._explorer.index.row(image_id)
        if row is None:
            raise UnknownLayerError(f"the run has no image {image_id!r}")
        return row

    def _best_stage(self, row: int) -> str:
        """The last label map that an image has."""
        done = [name for name in PASSES if self._explorer.index.status_of(name, row) == OK]
        return LABEL_COLUMN[done[-1]] if done else ""

    def _progress(self) -> dict[str, Any]:
        explorer, index = self._explorer, self._explorer.index
        problems = list(index.problems.values())[:3]
        return {
            "reading": explorer.reading, "done": index.done, "todo": index.todo,
            "problems": [explorer.problem, *problems] if explorer.problem else problems,
        }  # fmt: skip

    def _page(self, template: str, code: int = 200, /, **values: Any) -> Response:
        # Another explorer at this address, or new results, must not get pictures that the browser has kept.
        version = f"{self._csrf[:8]}.{self._explorer.index.version}"
        return HTMLResponse(self._templates.get_template(template).render(version=version, **values), code)


def _class_colours() -> bytes:
    """The colours of the classes as style sheet, since pages have no styles of their own."""
    rules = [f".k{key}{{background:rgb({r},{g},{b})}}" for key, (r, g, b) in enumerate(voc_palette().tolist())]
    return "\n".join(rules).encode()


def _link(path: str, query: Query, **words: Any) -> str:
    """Address of a page that keeps the filters."""
    return f"{path}?{_words(query, **words)}"


def _words(query: Query, **words: Any) -> str:
    return urlencode(query.words() | {name: value for name, value in words.items() if value not in (None, "")})


def _layer(request: Request) -> Layer | None:
    stage, key = request.query_params.get("stage", ""), request.query_params.get("key", "")
    if not stage:
        return None
    return Layer(stage, int(key) if key.isdecimal() and len(key) < 4 else None)


def _chosen(layers: list[Layer], wanted: Layer) -> Layer | None:
    """The wanted layer, or all classes of its stage; None means the image alone."""
    return next((one for one in (wanted, Layer(wanted.stage)) if one in layers), None)


def _place(found: NDArray[np.int32], row: int, at: int) -> tuple[int, bool]:
    """Where an image stands among those found, and whether it does; `at` is where it stood before it was marked."""
    if 0 <= at < len(found) and found[at] == row:
        return at, True
    places = np.flatnonzero(found == row)
    return (int(places[0]), True) if len(places) else (min(max(at, 0), len(found)), False)


def _score(index: Index, query: Query, row: int) -> str:
    """The score that a page is about: name and value."""
    name = query.sort if query.sort in SCORE_NAMES else query.score
    if not name:
        return ""
    value = index.scores[name][row]
    return f"{name.partition('.')[2].replace('_', ' ')} " + (f"{value:.3f}" if value >= 0 else "unknown")


def _whole(word: str, default: int) -> int:
    return int(word) if word.isdecimal() and len(word) < 10 else default


def _picture(data: bytes, kind: str) -> Response:
    return Response(data, media_type=kind, headers={"Cache-Control": f"private, max-age={_PICTURE_SECONDS}"})
