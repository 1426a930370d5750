"""Serves the page to this machine alone, until somebody ends it."""

import getpass
import signal
import socket
import webbrowser
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from bokeh.application import Application
from bokeh.application.handlers import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import Server
from bokeh.settings import settings

from galprote.workflows.stop import SIGNALS
from galprote.workflows.viewer.page import Page
from galprote.workflows.viewer.refitting import Spectra
from galprote.workflows.viewer.stored import StoredGalaxy, ViewError

#: Other machines, and other users' browsers elsewhere, do not get in.
HOST: Final = "127.0.0.1"


def make_server(galaxy: StoredGalaxy, other: StoredGalaxy | None, spectra: Spectra, port: int = 0) -> Server:
    """Make the server, listening but not yet answering.

    Parameters
    ----------
    galaxy : StoredGalaxy
    other : StoredGalaxy, optional
        The run to compare to.
    spectra : Spectra
    port : int
        0: any free one.

    Raises
    ------
    ViewError
        If the port is taken.
    """
    settings.resources = "server"  # whatever the environment says: nothing comes from other hosts

    def fill(document: Document) -> None:
        Page(document, galaxy, other, spectra)

    port = port or _free_port()
    origins = [f"{host}:{port}" for host in (HOST, "localhost")]
    try:
        return Server({"/": Application(FunctionHandler(fill))}, address=HOST, port=port,
                      allow_websocket_origin=origins, check_unused_sessions_milliseconds=2000,
                      unused_session_lifetime_milliseconds=5000)  # fmt: skip
    except OSError as error:
        raise ViewError(
            f"--port {port}: cannot listen there ({error.strerror or error}): take another, or 0"
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _this_place() -> str:
    """User and host as ssh takes them; in a container the user may have no name."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # the latter from Python 3.13 on
        return socket.gethostname()


def serve(server: Server, say: Callable[[str], None], name: str, *, browser: bool) -> None:
    """Say where the page is, open it, and answer until Ctrl-C, or another signal that ends a command."""
    address = f"http://{HOST}:{server.port}/"
    say(f"Viewer of {name}: {address}")
    say(f"From another machine: ssh -L {server.port}:{HOST}:{server.port} {_this_place()}, then open {address}")
    say("Ctrl-C ends it.")

    def end(_: int, __: FrameType | None) -> None:
        server.io_loop.add_callback_from_signal(server.io_loop.stop)

    taken = [kind for kind in SIGNALS if signal.getsignal(kind) is not signal.SIG_IGN]
    before: dict[Any, Any] = {kind: signal.signal(kind, end) for kind in taken}
    try:
        server.start()
        if browser:
            server.io_loop.add_callback(webbrowser.open, address)
        server.io_loop.start()
    finally:
        server.stop(wait=False)
        for kind, handler in before.items():
            signal.signal(kind, handler)
