"""From a URL to an open store: find the database, bring its tables up to date under a lock, say in one line what is wrong.

Everything that can be wrong at this point is a matter of configuration, so everything is a ConfigError on `store.url` or
`data_dir`. A password in the URL never appears in a message.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from sqlalchemy import URL, Connection, inspect, make_url, text
from sqlalchemy.exc import ArgumentError

from aiops.errors import AiopsError, ConfigError, UserError
from aiops.settings import Settings
from aiops.store.database import Database
from aiops.store.schema import HEAD
from aiops.store.sql import SqlStore

FILE_NAME = "aiops.db"


def open_store(url: str | None, settings: Settings) -> SqlStore:
    """The store at `url`, else `settings.store.url`, else the SQLite file in the data directory; made or upgraded if need be.

    Raises ConfigError: unknown kind of database, unreachable, unwritable directory, not a database, made by a newer aiops.
    """
    database = open_database(located(url, settings))
    try:
        upgrade(database)
    except UserError:
        database.close()
        raise
    except AiopsError as error:
        database.close()
        shown = database.url.render_as_string(hide_password=True)
        raise ConfigError("store", "store.url", f"expected an empty database or one of aiops at {shown}: {error}") from None
    return SqlStore(database, settings.store)


def located(url: str | None, settings: Settings) -> URL:
    """The database's address with its driver; a SQLite file's directory is made."""
    address = addressed(url, settings)
    if address.get_backend_name() == "sqlite":
        _writable(Path(str(address.database)).parent)
    return address


def addressed(url: str | None, settings: Settings) -> URL:
    """The database's address with its driver, looked at and not touched. ConfigError where it is of no known kind."""
    given = url or settings.store.url
    if given is None:
        return URL.create("sqlite", database=str(settings.data_dir / FILE_NAME))
    try:
        address = make_url(given)
    except ArgumentError:
        raise ConfigError("store", "store.url", "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE") from None
    match address.get_backend_name():
        case "sqlite" if address.database and address.database != ":memory:":
            return address
        case "postgresql" | "postgres":
            return _with_driver(address)
        case other:
            raise ConfigError("store", "store.url", f"expected sqlite:///FILE or postgresql://..., found {other!r}")


def open_database(url: URL) -> Database:
    """A database that answers; ConfigError where it cannot be reached or is no database."""
    shown = url.render_as_string(hide_password=True)
    database = Database(url)
    try:
        with database.write() as connection:
            connection.execute(text("SELECT 1"))
    except (AiopsError, OSError) as error:
        raise ConfigError("store", "store.url", f"expected a reachable, writable database at {shown}: {error}") from None
    return database


def revision(connection: Connection) -> str | None:
    """The schema's revision; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def upgrade(database: Database) -> bool:
    """Apply missing migrations in one transaction, which is also the lock against a second daemon; True if there were any."""
    with database.write() as connection:
        found = revision(connection)
        if found == HEAD:
            return False  # the usual case stays clear of Alembic, whose import alone takes longer than opening the store
        _migrate(connection, found, database.url)
    return True


def _migrate(connection: Connection, found: str | None, url: URL) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(files("migrations")))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        shown = url.render_as_string(hide_password=True)
        raise ConfigError("store", "store.url", f"{shown} was made by a newer aiops (schema {found}; this one knows {HEAD})")
    command.upgrade(config, "head")


def _writable(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".aiops-write-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError("store", "data_dir", f"expected a writable directory at {directory}: {error.strerror}") from None
    return directory


def _with_driver(address: URL) -> URL:
    try:
        import pg8000  # noqa: F401
    except ImportError:
        raise ConfigError("store", "store.url", "PostgreSQL needs the extra aiops[postgres]") from None
    return address.set(drivername="postgresql+pg8000")
