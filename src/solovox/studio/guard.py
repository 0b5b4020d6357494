"""Who may talk to the studio: nobody from another site, and with a token only who has it.

A page of another site that the user's browser shows can send requests to 127.0.0.1. So

- without a token, the Host header must be one of the studio's own names: a foreign name that was
  made to point here (DNS rebinding) is refused;
- what changes anything must not come from another origin, and what the browser marks as coming
  from another site gets nothing below /api;
- a browser may not show the page in a frame, nor the page load anything from elsewhere.

With a token, the first visit is /?token=…, which becomes a cookie; programs send it as
`Authorization: Bearer …`. Names are then free, for the cookie does not follow to a foreign name.
"""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from solovox.errors import SolovoxError

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
SAFE = {"GET", "HEAD", "OPTIONS"}
SHORTEST_TOKEN = 12
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_token(host: str, token: str | None) -> None:
    """Refuse a token that would let anybody in.

    Raises:
        SolovoxError: if a token is needed and not there, or is too short.
    """
    if token is None:
        if not is_loopback(host):
            raise SolovoxError(f"a studio at {host} needs a --token")
    elif len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise SolovoxError(
            f"--token must have {SHORTEST_TOKEN} plain characters or more; leave it away to get one"
        )


class Guard:
    """Lets requests through to an app, or answers them itself.

    Args:
        app: what is guarded.
        host: the address that the server is bound to.
        token: what a client must know; None asks for nothing.

    Raises:
        SolovoxError: as `check_token`.
    """

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", token: str | None = None) -> None:
        check_token(host, token)
        self.app, self.token = app, token
        self.names = LOOPBACK | {host.strip("[]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refusal = self.refusal(scope)
        await (refusal or self.app)(scope, receive, _with_headers(send))

    def refusal(self, scope: Scope) -> Response | None:
        """What to answer in place of the app; None lets the request through."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        if not host or (self.token is None and _name(host) not in self.names):
            return _no("this name is not the studio's; use 127.0.0.1", 421)
        is_api = scope["path"].startswith("/api")
        site = headers.get("sec-fetch-site", "none")
        if (is_api or scope["method"] not in SAFE) and site in ("cross-site", "same-site"):
            return _no("requests from other sites are refused")
        origin = headers.get("origin")
        if origin is not None and scope["method"] not in SAFE and not _same(origin, host):
            return _no("requests from other origins are refused")
        return None if self.token is None else self._without_token(scope, headers, host)

    def _without_token(self, scope: Scope, headers: Headers, host: str) -> Response | None:
        cookie = f"solovox-studio-{urlsplit(f'//{host}').port or 80}"
        if scope["path"] == "/" and scope["method"] == "GET":
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if given and self._is_token(given):
                answer = RedirectResponse("/", status_code=303)
                answer.set_cookie(cookie, given, httponly=True, samesite="lax", path="/")
                return answer
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(bearer.strip()):
            return None
        try:
            there = SimpleCookie(headers.get("cookie", "")).get(cookie)
        except CookieError:
            there = None
        if there is not None and self._is_token(there.value):
            return None
        return _no("open the address with ?token=… that the studio printed", 401)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode())


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _same(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False


def _no(why: str, status: int = 403) -> JSONResponse:
    return JSONResponse({"detail": why}, status)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return sending
