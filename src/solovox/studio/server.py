"""The studio as one running thing: library, worker and web server, made and ended together."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

import solovox
from solovox.errors import SolovoxError
from solovox.studio.api import Hub, Limits, make_app
from solovox.studio.guard import check_token, is_loopback
from solovox.studio.library import Library
from solovox.studio.worker import Worker


class Studio:
    """A studio that listens as soon as it is made, and answers once `run`.

    Args:
        work: folder of all songs.
        host: address to listen at.
        port: 0 takes a free one.
        token: what clients must know; None needs none on this machine, and makes one for others.
        models: more models: folders or hub ids.
        device, threads: as for `Worker`.
        keep: days that unused songs are kept; 0 keeps them.
        limits: of uploads.

    Raises:
        SolovoxError: if the address, the folder, the token or a model cannot be used.
    """

    def __init__(
        self,
        work: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        models: Sequence[str] = (),
        device: str = "auto",
        threads: int | None = None,
        keep: float = 0,
        limits: Limits | None = None,
    ) -> None:
        if token is None and not is_loopback(host):
            token = secrets.token_urlsafe(18)
        check_token(host, token)
        self.host, self.token = host, token
        known, folders = _find_models(models)
        self.library = Library(work, keep)
        self.worker = Worker(self.library, known, device, threads)
        self.hub = Hub()
        try:
            app = make_app(
                self.library,
                self.worker,
                self.hub,
                folders=folders,
                host=host,
                token=token,
                limits=limits,
            )
            self._socket = _listen(host, port)
        except SolovoxError:
            self.library.close()
            raise
        self._server = _Server(self.hub, app)
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        """Where the page is, with the token if there is one."""
        name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host)
        name = name or (f"[{self.host}]" if ":" in self.host else self.host)
        return f"http://{name}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def run(self) -> None:
        """Answer until `stop`, Ctrl-C or SIGTERM."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self.library.close()

    def stop(self) -> None:
        """Make `run` return."""
        self.hub.close()
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """A server that ends its event streams when told to stop; they would not end otherwise."""

    def __init__(self, hub: Hub, app: object) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=5,
                h11_max_incomplete_event_size=1 << 16,
            )
        )
        self._hub = hub

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams, then the server."""
        self._hub.close()
        super().handle_exit(sig, frame)


def _find_models(more: Sequence[str]) -> tuple[dict[str, str], dict[str, Path]]:
    """Of all models to offer, by the name that is shown: what `Separator` takes, and the folder."""
    known: dict[str, str] = {}
    folders: dict[str, Path] = {}
    if more:
        from solovox.checkpoint import find_model  # loads torch

        for name in more:
            shown = Path(name).name or name
            if known.get(shown, name) != name:
                raise SolovoxError(
                    f"{known[shown]} and {name} would both be shown as '{shown}'; rename one"
                )
            known[shown], folders[shown] = name, find_model(name)
    for config in sorted((Path(solovox.__file__).parent / "weights").glob("*/config.json")):
        known.setdefault(config.parent.name, config.parent.name)
        folders.setdefault(config.parent.name, config.parent)
    if not known:
        raise SolovoxError("there is no model; name one with -n")
    return known, folders


def _listen(host: str, port: int) -> socket.socket:
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(address[0], socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address[4])
            listening.listen(128)  # a browser that comes before `run` waits, and is not refused
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SolovoxError(
            f"port {port} of {host} cannot be used ({reason}); choose another --port"
        ) from error
    return listening
