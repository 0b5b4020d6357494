"""The server of a listening test: the page, the audio, and what listeners say.

    GET  /                      the page
    GET  /audio/TOKEN.flac      a stimulus
    POST /api/listeners         a new listener → {"listener": NAME}
    GET  /api/listeners/NAME    the study in the listener's order, and all that was said so far
    PUT  /api/listeners/NAME    what has been said; written to disk before the answer

A listener's page sends its whole state whenever it changes, with a revision that only grows, the
name of its window, and the last revision on disk that it has seen. An older revision never replaces
a newer one, nor does a window replace what another has said since, so no answer is lost when a page
is reloaded, messages arrive out of order, or the test goes on in another window. Standard library
only: nothing to install on the machine of the test.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from solovox.errors import SolovoxError
from solovox.evaluation.listening.study import Study, load_study, write_json

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/listen.js": ("listen.js", "text/javascript; charset=utf-8"),
    "/listen.css": ("listen.css", "text/css; charset=utf-8"),
}
LARGEST = 1 << 20  # bytes a listener may send at once
LISTENER = re.compile(r"^[0-9a-f]{16}$")


class ListeningServer(ThreadingHTTPServer):
    """Serves one study.

    Args:
        folder: the study's folder.
        host: address to listen at; 0.0.0.0 lets phones in the same network in.
        port: 0 takes a free one.
    """

    daemon_threads = True
    request_queue_size = 128  # a class that begins together; of more than 5 some were refused

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
        self.folder = folder
        self.study: Study = load_study(folder)
        self.tokens = {t for page in self.study.pages for t in (page.open, *page.stimuli)}
        self.lock = threading.Lock()
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else "they go to 65535"
            raise SolovoxError(
                f"port {port} of {host} cannot be used ({why}); choose another --port"
            ) from error

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self.server_address[:2]
        return f"http://{'localhost' if host in ('0.0.0.0', '127.0.0.1') else host!s}:{port}/"

    def result(self, listener: str) -> Path:
        """Return the file of a listener."""
        return self.folder / "results" / f"{listener}.json"

    def add_listener(self) -> dict[str, Any]:
        """Return a new listener, already on disk."""
        listener = secrets.token_hex(8)
        write_json(
            self.result(listener),
            {"listener": listener, "began": _now(), "revision": 0, "pages": {}, "answers": {}},
        )
        return {"listener": listener}

    def state(self, listener: str) -> dict[str, Any]:
        """Return the study as a listener sees it, with what the listener has said."""
        said = json.loads(self.result(listener).read_text("utf-8"))
        return {
            "title": self.study.title,
            "stem": self.study.stem,
            "listener": listener,
            "pages": [
                {"page": page, "reference": self.study.pages[page].open, "stimuli": tokens}
                for page, tokens in self.study.order(listener)
            ],
            "said": said,
        }

    def save(self, listener: str, said: dict[str, Any]) -> dict[str, Any]:
        """Return whose revision is on disk once this one has been taken, or found too old."""
        clean = self._check(said)
        seen = clean.pop("seen")
        with self.lock:
            there = json.loads(self.result(listener).read_text("utf-8"))
            there.setdefault("window", "")  # earlier versions had none
            goes_on = clean["window"] == there["window"] or seen == there["revision"]
            if clean["revision"] > there["revision"] and goes_on:
                there |= clean | {"saved": _now()}
                write_json(self.result(listener), there)
            return {"revision": there["revision"], "window": there["window"]}

    def _check(self, said: dict[str, Any]) -> dict[str, Any]:
        """Return what a listener may say, and nothing else of what was sent."""
        pages = {}
        for number, page in said["pages"].items():
            stimuli = self.study.pages[int(number)].stimuli
            ratings = {str(token): int(value) for token, value in page["ratings"].items()}
            if not (ratings.keys() <= stimuli.keys()) or not all(
                0 <= value <= 100 for value in ratings.values()
            ):
                raise ValueError("ratings of something else, or outside 0 to 100")
            pages[str(int(number))] = {
                "ratings": ratings,
                "done": bool(page["done"]),
                "seconds": _within(float(page["seconds"]), 1e9),
            }
        answers = {str(k)[:40]: str(v)[:2000] for k, v in list(said["answers"].items())[:20]}
        return {
            "revision": int(_within(said["revision"], 2**53 - 1)),  # what a browser counts to
            "seen": int(_within(said.get("seen", 0), 2**53 - 1)),
            "window": str(said.get("window", ""))[:40],
            "current": int(_within(said["current"], len(self.study.pages))),
            "finished": bool(said["finished"]),
            "pages": pages,
            "answers": answers,
        }


class _Handler(BaseHTTPRequestHandler):
    server: ListeningServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in FILES:
            name, kind = FILES[path]
            self._send((PAGE / name).read_bytes(), kind)
        elif path.startswith("/audio/"):
            self._audio(path.removeprefix("/audio/").removesuffix(".flac"))
        else:
            self._listener(lambda listener: self.server.state(listener))

    def do_POST(self) -> None:
        if self.path != "/api/listeners":  # navigator.sendBeacon cannot PUT
            self.do_PUT()
        elif self._read() is not None:
            self._answer(self.server.add_listener, HTTPStatus.CREATED)

    def do_PUT(self) -> None:
        body = self._read()
        if body is not None:
            self._listener(lambda listener: self.server.save(listener, json.loads(body)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (named by the base class)
        """Say nothing: listeners' requests are no news."""

    def _audio(self, token: str) -> None:
        if token not in self.server.tokens:
            self._refuse(HTTPStatus.NOT_FOUND, "no such stimulus")
            return
        audio = (self.server.folder / "audio" / f"{token}.flac").read_bytes()
        self._send(audio, "audio/flac", cache="max-age=86400")

    def _listener(self, answer: Callable[[str], dict[str, Any]]) -> None:
        match = re.match(r"^/api/listeners/([^/?]+)$", self.path)
        listener = match.group(1) if match else ""
        if not LISTENER.match(listener) or not self.server.result(listener).is_file():
            self._refuse(HTTPStatus.NOT_FOUND, "no such listener")
            return
        self._answer(lambda: answer(listener))

    def _answer(
        self, answer: Callable[[], dict[str, Any]], status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        """Send an answer, or why there is none."""
        try:
            value = answer()
        except OSError as error:
            why = f"the server's disk cannot be used ({error.strerror})"
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, why)
        except (
            ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
        ) as error:  # fmt: skip
            self._refuse(HTTPStatus.BAD_REQUEST, f"cannot be understood: {error}")
        else:
            self._json(value, status)

    def _read(self) -> bytes | None:
        """Return the body, or None where it was refused: unread, of unknown or too great length."""
        text = self.headers.get("Content-Length") or "0"
        unknown = "Transfer-Encoding" in self.headers or not re.fullmatch("[0-9]{1,15}", text)
        if not unknown and int(text) <= LARGEST:
            return self.rfile.read(int(text))
        self.close_connection = True  # what was not read must not be taken for the next request
        if unknown:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the length must be said, in bytes")
        else:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{LARGEST} bytes at most")
        return None

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._json({"error": why}, status)

    def _json(self, value: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(
        self,
        body: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        cache: str = "no-store",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Cache-Control", cache)
        self.send_header("X-Content-Type-Options", "nosniff")
        # Nothing from elsewhere: the page needs no network but this server.
        self.send_header("Content-Security-Policy", "default-src 'self'")
        self.end_headers()
        self.wfile.write(body)


def _within(value: float, most: float) -> float:
    """Return a number that is from 0 to `most`, which NaN is not."""
    if not 0 <= value <= most:
        raise ValueError(f"{value} is not from 0 to {most:g}")
    return value


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
