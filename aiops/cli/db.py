"""`aiops db`: bring the database up to date, look whether it is sound, verify the ledger, delete what is past its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from aiops.errors import UserError
from aiops.settings import Settings, read

if TYPE_CHECKING:
    from aiops.store.sql import SqlStore

app = typer.Typer(name="db", help="The database: upgrade, check, verify, prune.", no_args_is_help=True)
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where the daemon keeps its data.")]
Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file (YAML).")]


@app.command()
def upgrade(data_dir: DataDir = None, config: Config = None) -> None:
    """Make the tables, or bring them to what this version of aiops needs. The daemon does the same when it starts."""
    from aiops.store import opening
    from aiops.store.schema import HEAD

    database = opening.open_database(opening.located(None, read(config, {"data_dir": data_dir})))
    try:
        changed = opening.upgrade(database)
    finally:
        database.close()
    typer.echo(f"schema {HEAD}: {'upgraded' if changed else 'up to date'}")


@app.command()
def check(data_dir: DataDir = None, config: Config = None) -> int:
    """Look for damage in the database itself; exit status 1 and what was found if there is any."""
    with _store(read(config, {"data_dir": data_dir})) as store, _patience("checking"):
        found = store.damage()
    for line in found:
        typer.echo(line)
    typer.echo("damaged: restore a backup" if found else "sound")
    return 1 if found else 0


@app.command()
def verify(data_dir: DataDir = None, config: Config = None) -> None:
    """Check the ledger's hash chain and what hangs on it; exit status 1 names the first record that does not fit."""
    with _store(read(config, {"data_dir": data_dir})) as store, _patience("verifying"):
        records = store.verify()
    typer.echo(f"{records} records verified")


@app.command()
def prune(data_dir: DataDir = None, config: Config = None) -> None:
    """Delete what is past its retention (store.samples, store.records); never what is open or undelivered."""
    from aiops.clock import SystemClock

    with _store(read(config, {"data_dir": data_dir})) as store, _patience("pruning"):
        rows = store.prune(SystemClock().now())
    typer.echo(f"{rows} rows deleted")


@contextmanager
def _store(settings: Settings) -> Iterator[SqlStore]:
    """The store that a daemon left behind; a mistyped directory is an error, not a new database."""
    from aiops.store.opening import FILE_NAME, open_store

    if settings.store.url is None and not (settings.data_dir / FILE_NAME).exists():
        raise UserError(f"{settings.data_dir}: expected the data directory of an earlier `aiops run`")
    store = open_store(None, settings)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _patience(doing: str) -> Iterator[None]:
    with Console(stderr=True).status(f"{doing} ..."):
        yield
