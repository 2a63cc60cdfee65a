"""Who may ask the explorer: the holder of its token, from its own pages, under its own name."""

import hashlib
import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
COOKIE_SECONDS = 7 * 24 * 3600

_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Lets through requests with the token's cookie, and sets it for the start-up link.

    The Host header refuses DNS rebinding: a browser in which another site has given its name to this machine.

    Args:
        app: what is guarded.
        token: the secret of the start-up link.
        cookie: name of the cookie.
        any_host: take any Host header; for servers that other machines reach.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str, any_host: bool) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":

            async def send_safely(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    for name, value in _HEADERS.items():
                        headers[name] = value
                    headers.setdefault("Cache-Control", "no-store")
                await send(message)

            answer = self._answer(Request(scope)) or self._app
            await answer(scope, receive, send_safely)

    def _answer(self, request: Request) -> Response | None:
        """What is answered at once; None lets the request through."""
        if not self._any_host and not _names_loopback(request.headers.get("host", "")):
            return PlainTextResponse("The explorer answers to localhost and loopback addresses only.", 421)
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("This is not done here.", 405)
        given = request.query_params.get("token")
        if request.method != "POST" and given is not None and same(given, self._token):
            query = request.url.remove_query_params("token").query
            answer = RedirectResponse("/" + request.url.path.strip("/\\") + (f"?{query}" if query else ""), 303)
            answer.set_cookie(self._cookie, self._token, COOKIE_SECONDS, httponly=True, samesite="lax")
            return answer
        if not same(request.cookies.get(self._cookie, ""), self._token):
            text = "Open the link that pfit-ray serve has printed: it has the token that this page asks for."
            return PlainTextResponse(text, 403)
        return None if request.method != "POST" or own_origin(request.headers) else foreign_form()


def same(given: str, wanted: str) -> bool:
    """Whether two secrets are equal, in a time that tells nothing of them."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def csrf_token(token: str) -> str:
    """What forms of the explorer carry, and no other site can know."""
    return hmac.new(token.encode(), b"pfit-ray explorer form", hashlib.sha256).hexdigest()


def own_origin(headers: Headers) -> bool:
    """Whether a request comes from a page of this server, as far as the browser says."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


def foreign_form() -> Response:
    """The answer to a form that another site has sent, or that is of an earlier explorer."""
    return PlainTextResponse("This form is not of this explorer; load its page again.", 403)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names_loopback(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
