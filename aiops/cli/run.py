"""`aiops run`: the daemon for this cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops.settings import read


def run(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (YAML).")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where to keep data (created if missing).")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port to listen on (default 8080; 0 picks one).")] = None,
) -> int:
    """Watch, foresee, explain and act on this cluster until SIGTERM. A fresh install only observes and advises."""
    from aiops.daemon import serve

    flags = {"data_dir": data_dir, "listen.host": host, "listen.port": port}
    return serve(read(config, flags), str(config or "defaults"), ready=_say)


def _say(url: str, trouble: str) -> None:
    typer.echo(f"aiops is up but not ready ({trouble}): {url}" if trouble else f"aiops is ready at {url}")
