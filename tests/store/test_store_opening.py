"""Opening: what is wrong is one line and nothing is left half made; migrations and tables are the same thing."""

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from private_postgres import Cluster
from sqlalchemy import text

from aiops.errors import ConfigError
from aiops.model import Batch, SeriesKey
from aiops.settings import Settings, StoreSettings
from aiops.store.opening import FILE_NAME, located, open_database, open_store, upgrade
from aiops.store.schema import metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/own.db"
    return request.getfixturevalue("postgres").fresh()


def test_migrations_make_exactly_the_tables_that_the_code_uses(url: str) -> None:
    open_store(url, Settings()).close()
    database = open_database(located(url, Settings()))
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_only_the_first_opening_migrates(url: str) -> None:
    database = open_database(located(url, Settings()))
    assert [upgrade(database), upgrade(database)] == [True, False]
    database.close()


def test_a_database_of_a_newer_aiops_is_left_alone(url: str) -> None:
    open_store(url, Settings()).close()
    database = open_database(located(url, Settings()))
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(ConfigError, match="newer aiops"):
        open_store(url, Settings())


def _open(url: str, failures: "multiprocessing.Queue[str]") -> None:
    try:
        open_store(url, Settings()).close()
    except Exception as error:
        failures.put(repr(error))


def test_two_daemons_that_start_together_migrate_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    both = [context.Process(target=_open, args=(url, failures)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert failures.empty(), failures.get()
    open_store(url, Settings()).close()


@pytest.mark.parametrize(
    ("given", "key", "says"),
    [
        ("mysql://localhost/x", "store.url", "found 'mysql'"),
        ("not a url", "store.url", "expected sqlite:///FILE"),
        ("sqlite://", "store.url", "expected sqlite:///FILE"),
        ("postgresql://ann:hunter2@127.0.0.1:1/x", "store.url", "reachable"),
        ("sqlite:////proc/nothing/x.db", "data_dir", "writable directory"),
    ],
)
def test_a_wrong_address_is_one_line_that_shows_no_password(given: str, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(given, Settings())
    assert (caught.value.key, "hunter2" in str(caught.value)) == (key, False)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"this is a text file, not a database at all, and quite long" * 40, b"SQLite format 3\0" + b"\7" * 4096]
)
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="expected a reachable, writable database"):
        open_store(None, Settings(data_dir=tmp_path))
    assert path.read_bytes() == content


def test_somebody_elses_database_is_not_taken_over(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as other:
        other.execute("CREATE TABLE series (a)")
    other.close()
    with pytest.raises(ConfigError, match="already exists"):
        open_store(None, Settings(data_dir=tmp_path))
    with sqlite3.connect(tmp_path / FILE_NAME) as other:  # and no half of a migration is left in it
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("series",)]
    other.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="writable directory"):
        open_store(None, Settings(data_dir=tmp_path / "data"))


def test_the_data_directory_is_made_and_used_by_default(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "deep" / "data", store=StoreSettings())
    store = open_store(None, settings)
    store.append(Batch.of(1.7e9, [(SeriesKey.of("m"), 1.0)]))
    store.close()
    assert (tmp_path / "deep" / "data" / FILE_NAME).exists()
    again = open_store(None, settings)
    assert again.keys() == (SeriesKey.of("m"),)
    again.close()


def test_a_password_is_never_part_of_a_postgres_error(postgres: Cluster) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(postgres.url("nowhere").replace("postgres@", "postgres:hunter2@"), Settings())
    assert "hunter2" not in str(caught.value)
    # The server says that the database does not exist; where it hangs up first, the driver sees only the network.
    assert any(said in str(caught.value) for said in ('database "nowhere" does not exist', "network error"))
