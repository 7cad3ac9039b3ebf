"""`aiops check-config`: everything that `aiops run` would refuse, without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops.settings import read

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (YAML).")]


def check_config(config: Config = None) -> None:
    """Read a configuration and build every plug-in that it names; print what would run."""
    from aiops.api.auth import check_bind
    from aiops.wiring import check

    settings, where = read(config), str(config or "defaults")
    check_bind(settings, where)
    for line in check(settings, where):
        typer.echo(line)
