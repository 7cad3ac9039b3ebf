"""`aiops db` on a real data directory: says what it did, and says no with a status."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiops.cli.db import app
from aiops.errors import ConfigError, Permanent, UserError
from aiops.model import Batch
from aiops.settings import Settings
from aiops.snapshot import Decided
from aiops.store.opening import FILE_NAME, open_store
from aiops.testing.examples import T0, gpu, snapshot


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    store = open_store(None, Settings(data_dir=tmp_path))
    epoch = store.acquire("one", T0, 1e9) or 0
    for i in range(3):
        store.record(snapshot(f"c{i}", epoch, T0 + i), Decided())
        store.append(Batch.of(T0 + 7200 * i, [(gpu(0), float(i))]))
    store.close()
    return tmp_path


def run(command: str, data_dir: Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [command, "--data-dir", str(data_dir)], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value or 0, result.stdout


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("upgrade", "up to date"),
        ("check", "sound"),
        ("verify", "3 records verified"),
        ("prune", "rows deleted"),
    ],
)
def test_each_command_says_what_it_did(data_dir: Path, command: str, says: str) -> None:
    status, said = run(command, data_dir)
    assert (status, says in said) == (0, True)


def test_upgrade_makes_a_database_where_there_is_none(tmp_path: Path) -> None:
    assert "upgraded" in run("upgrade", tmp_path / "new")[1]


@pytest.mark.parametrize("command", ["check", "verify", "prune"])
def test_a_mistyped_directory_is_not_made(tmp_path: Path, command: str) -> None:
    with pytest.raises(UserError, match="expected the data directory"):
        run(command, tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_a_torn_page_is_found(data_dir: Path) -> None:
    path = data_dir / FILE_NAME
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 4096 // 2 * 4096)
        file.write(b"\xff" * 4096)
    try:
        status, said = run("check", data_dir)
        assert (status, "damaged" in said) == (1, True)
    except (ConfigError, Permanent) as error:  # the page may be one that opening already needs
        assert "malformed" in str(error)
