"""The daemon as a user meets it: a process, a URL, a signal; and what it refuses, in one line."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

RUN = [sys.executable, "-m", "aiops.cli.main"]


class Running:
    """One `aiops run` as a child process."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [*RUN, "run", "--data-dir", str(data_dir), "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if "http" not in line:
            self.process.kill()
            raise AssertionError(f"not ready: {line!r} {self.process.communicate()[1][-2000:]}")
        self.line = line
        self.url = line.split()[-1].rstrip("/")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def json(self, path: str) -> Any:
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err


@pytest.fixture
def daemons() -> Iterator[list[Running]]:
    started: list[Running] = []
    yield started
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def test_a_cluster_that_cannot_be_read_is_said_in_the_first_line_and_by_ready(tmp_path: Path, daemons: list[Running]) -> None:
    place = tmp_path / "data" / "local"
    place.mkdir(parents=True)
    with (place / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        daemon = Running(tmp_path / "data")
        daemons.append(daemon)
    assert "not ready" in daemon.line
    assert daemon.get("/-/ready")[0] == 503
    assert daemon.end()[0] == 0


def command(*args: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *args], capture_output=True, text=True, timeout=99, cwd=cwd, env={**os.environ, **(env or {})})


def test_it_watches_this_host_decides_and_drains_with_status_0(tmp_path: Path, daemons: list[Running]) -> None:
    daemon = Running(tmp_path / "data")
    daemons.append(daemon)
    assert daemon.get("/-/healthy")[0] == 200
    assert daemon.get("/-/ready")[0] == 200
    assert daemon.json("/api/v1/cluster")["backend"] == "local"
    assert "node_cpu_seconds_total" in daemon.get("/metrics")[1]
    status, err = daemon.end()
    assert status == 0, err
    replayed = command("replay", "--data-dir", str(tmp_path / "data"))
    assert replayed.returncode == 0, replayed.stdout
    assert ", 0 different" in replayed.stdout
    assert not replayed.stdout.startswith("0 cycles")


def test_kill_9_loses_nothing_that_was_recorded_and_the_next_start_leads_with_a_higher_epoch(
    tmp_path: Path, daemons: list[Running]
) -> None:
    first = Running(tmp_path / "data")
    daemons.append(first)
    first.end(signal.SIGKILL)
    before = command("replay", "--data-dir", str(tmp_path / "data")).stdout
    second = Running(tmp_path / "data")
    daemons.append(second)
    assert second.get("/-/ready")[0] in (200, 503)
    assert second.end()[0] == 0
    assert ", 0 different" in before


def test_the_kill_signal_leaves_a_file_that_survives(tmp_path: Path, daemons: list[Running]) -> None:
    daemon = Running(tmp_path / "data")
    daemons.append(daemon)
    daemon.process.send_signal(signal.SIGUSR1)
    for _ in range(1000):
        if (tmp_path / "data" / "kill").exists():
            break
        time.sleep(0.02)
    assert (tmp_path / "data" / "kill").exists()
    assert daemon.end()[0] == 0


def refused(answer: subprocess.CompletedProcess[str], *words: str) -> None:
    assert answer.returncode == 2, answer.stderr
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in answer.stderr


def test_a_port_in_use_is_refused_and_nothing_is_left_half_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = command("run", "--data-dir", str(tmp_path / "data"), "--port", str(port))
    refused(answer, "listen.port", str(port), "in use")
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(command("run", "--data-dir", str(tmp_path / "file" / "data"), "--port", "0"), "data_dir")


def test_an_unreachable_database_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "aiops.yaml"
    config.write_text("store: {url: 'postgresql+pg8000://nobody@127.0.0.1:1/none'}\n")
    answer = command("run", "--config", str(config), "--data-dir", str(tmp_path / "data"), "--port", "0")
    refused(answer, "store.url")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen: {prot: 1}", ("listen.prot", "unknown key")),
        ("policies: {rebalance: {mode: act}}", ("policies.rebalance.mode", "policies.reclaim.mode: act")),
        ("limits: {scopes: {prescael: []}}", ("limits.scopes.prescael", "expected a policy: prescale")),
        ("policies: {nonsense: {}}", ("policies.nonsense", "expected one of")),
        ("collectors: {host: {unknown: 1}}", ("unknown",)),
        ("a: 1\na: 2", ("duplicate key",)),
        ("backend: {local: {cluster: missing.yaml}}", ("missing.yaml",)),
        ("listen: {host: 0.0.0.0}", ("aiops.yaml", "listen.token_file")),
        ("listen: {token_file: /no/such/tokens}", ("/no/such/tokens", "listen.token_file", "No such file")),
        ("store: {url: 'mysql://somewhere/x'}", ("aiops.yaml", "store.url", "postgresql")),
        ("store: {url: nonsense}", ("aiops.yaml", "store.url", "postgresql")),
        ("route: {receiver: nobody}", ("route.receiver", "expected one of")),
    ],
)
def test_a_bad_configuration_is_refused_by_run_and_by_check_config(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    config = tmp_path / "aiops.yaml"
    config.write_text(text)
    refused(command("check-config", "--config", str(config)), *words)
    refused(command("run", "--config", str(config), "--data-dir", str(tmp_path / "data"), "--port", "0"), *words)
    assert not (tmp_path / "data").exists()


def test_check_config_says_what_would_run() -> None:
    answer = command("check-config")
    assert answer.returncode == 0
    assert "policies prescale (observe): ok" in answer.stdout


def test_an_unknown_decision_is_one_line(tmp_path: Path) -> None:
    refused(command("explain", "nope", "--data-dir", str(tmp_path)), "expected")


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = ("prophet", "pandas", "sklearn", "torch", "ortools", "matplotlib", "pyarrow")
    code = f"import aiops.cli.main, sys; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
