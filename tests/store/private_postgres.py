"""A private PostgreSQL cluster in a temporary directory while the tests run; skipped with a reason where there is none."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Cluster:
    """A running server that is reached by its socket only."""

    directory: Path
    numbers: Iterator[int]

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?unix_sock={self.directory}/.s.PGSQL.5432"

    def fresh(self) -> str:
        """URL of a new, empty database."""
        name = f"t{next(self.numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, statement: str) -> None:
        import pg8000.native

        with pg8000.native.Connection(
            "postgres", unix_sock=f"{self.directory}/.s.PGSQL.5432", database="postgres"
        ) as connection:
            connection.run(statement)


def _binaries() -> Path | None:
    found = shutil.which("initdb")
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return Path(found).parent if found else newest[-1].parent if newest else None


def _unprivileged(directory: Path) -> list[str]:
    """PostgreSQL refuses to run as root: what to put before its commands, and a directory that its user owns."""
    if os.geteuid() != 0:
        return []
    shutil.chown(directory, "postgres", "postgres")
    return ["runuser", "-u", "postgres", "--"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (initdb not found)")
    pytest.importorskip("pg8000")
    directory = Path(tempfile.mkdtemp(prefix="aiops-pg-", dir="/tmp"))  # a socket's path may have 107 characters only
    become = _unprivileged(directory)

    def run(*command: str) -> None:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*become, *command], check=True, timeout=60, cwd=directory, **quiet)

    data = str(directory / "data")
    options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off -c max_connections=50"
    run(str(binaries / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
    run(str(binaries / "pg_ctl"), "-D", data, "-w", "-l", str(directory / "log"), "-o", options, "start")
    yield Cluster(directory, count())
    run(str(binaries / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(directory, ignore_errors=True)
