"""The process behind `prvr serve`: one port of this machine, until it is interrupted."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError
from pipeline.search.engine import Engine
from pipeline.search.server import application

HOST = "127.0.0.1"


def run(config: Config, engines: dict[str, Callable[[], Engine]], port: int) -> None:
    """Serve until interrupted, the default engine's encoder loaded first. Errors: ConfigError when the port is taken; those of engines."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be opened: {error.strerror}", where="--port", fix="choose another, or 0 for any"
            ) from error
        app = application(config, engines)
        print("loading the encoder and the videos ...", flush=True)
        app.state.catalogue.ask("", lambda engine: engine.answer("a first query", 1))
        listening.listen()  # who reads the address may connect at once; the answer comes when the server is up
        print(f"http://{HOST}:{listening.getsockname()[1]}/ shows the search page (Ctrl-C ends it)", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        server.run(sockets=[listening])
