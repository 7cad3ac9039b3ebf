"""What the local backend costs: observing N running units, acting, starting a process, surviving kill -9.

Baselines in the same run: psutil's walk over the same processes (what a supervisor without identities would do), a bare
subprocess, and two fsyncs of a file of the same size (what durability alone costs). Real processes; all are ended.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aiops.action import Admission, Decision, ScaleService
from aiops.backends.journal import effects
from aiops.backends.local import LocalBackend
from aiops.clock import SystemClock
from aiops.errors import Unreadable

OBSERVE_GOAL_S = 0.1  # a hundredth of the default 10-s cycle
NOW = SystemClock().now


def backend(directory: Path, replicas: int) -> LocalBackend:
    """A service of plain sleeping replicas; only supervision costs anything."""
    web = {"command": ["sleep", "3600"], "target": 1, "replicas": replicas, "min": 0, "max": 1000, "drain": "1ms"}
    section = {"state_dir": str(directory), "services": {"web": web}, "cgroups": "off", "ports": [40000, 41999]}
    return LocalBackend.from_settings(section, "bench")


def ready(found: LocalBackend) -> float:
    """Observe until all replicas are ready; seconds it took."""
    started = time.perf_counter()
    while True:
        service = found.observe(NOW()).services[0]
        if service.ready == service.replicas:
            return time.perf_counter() - started
        time.sleep(0.002)


def scale(found: LocalBackend, id: str, replicas: int) -> None:
    """One admitted scale action."""
    seen = found.observe(NOW()).services[0]
    action = ScaleService(service="web", uid=seen.uid, version=seen.version, replicas=replicas, was=seen.replicas)
    found.apply(Admission(id=id, at=NOW(), decision=Decision(policy="bench", action=action, reason="")), NOW())


def timed(call, rounds: int) -> list[float]:
    """Wall seconds of each call, sorted."""
    out = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        out.append(time.perf_counter() - started)
    return sorted(out)


def percentile(values: list[float], q: float) -> float:
    """Nearest rank."""
    return values[min(len(values) - 1, int(q * len(values)))]


def observing(directory: Path, units: int, rounds: int) -> list[dict]:
    """Seconds of one observation of `units` running units, and memory of what watches them."""
    found = backend(directory, units)
    try:
        start_s = ready(found)
        taken = timed(lambda: found.observe(NOW()), rounds)
        walk = timed(lambda: list(psutil.process_iter(["pid", "status", "create_time"])), max(5, rounds // 10))
        launchers = [p for p in psutil.process_iter(["cmdline"]) if str(directory) in " ".join(p.info["cmdline"] or [])]
        pss = statistics.mean(p.memory_full_info().pss for p in launchers) / 2**20
    finally:
        found.shutdown_units()
        found.close()
    walk_p50 = {"psutil walk over all processes": percentile(walk, 0.5)}
    return [
        row(f"local observe, {units} units, P50", percentile(taken, 0.5), "s", None, walk_p50),
        row(f"local observe, {units} units, P99", percentile(taken, 0.99), "s", OBSERVE_GOAL_S, {}),
        row(f"local start of {units} units until running", start_s, "s", None, {"bare subprocesses": bare(units)}),
        row("memory per watched unit (PSS)", pss, "MiB", None, {}),
    ]


def bare(units: int) -> float:
    """Seconds to start and end as many processes without any watching."""
    started = time.perf_counter()
    children = [subprocess.Popen(["sleep", "3600"]) for _ in range(units)]
    taken = time.perf_counter() - started
    for child in children:
        child.kill()
        child.wait()
    return taken


def acting(directory: Path, rounds: int) -> list[dict]:
    """Seconds from an admitted scale action to its durable, started effect."""
    found = backend(directory, 1)
    try:
        ready(found)
        applied = []
        for i in range(rounds):
            found.observe(NOW())
            seen = found.observe(NOW()).services[0]
            action = ScaleService(service="web", uid=seen.uid, version=seen.version, replicas=1 + i % 2, was=seen.replicas)
            admission = Admission(id=f"a{i}", at=NOW(), decision=Decision(policy="bench", action=action, reason=""))
            applied += timed(lambda admission=admission: found.apply(admission, NOW()), 1)
        size = (directory / "state.json").stat().st_size
    finally:
        found.shutdown_units()
        found.close()
    floor = percentile(timed(lambda: durable(directory / "probe", size), rounds), 0.5)
    return [row("local apply (scale), P50", percentile(sorted(applied), 0.5), "s", 0.05, {"three bare fsyncs": floor})]


def durable(path: Path, size: int) -> None:
    """What an action cannot do without: begin, state, done."""
    for _ in range(3):
        with path.open("wb") as file:
            file.write(b"x" * size)
            file.flush()
            os.fsync(file.fileno())


def killing(directory: Path, rounds: int) -> list[dict]:
    """Effects done twice and units doubled over kill -9 of the process that acts, at random times."""
    chance = random.Random(7)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for turn in progress.track(range(rounds), description="kill -9"):
            heard, told = os.pipe()
            pid = os.fork()
            if pid == 0:
                act_for_ever(directory, turn, told)
            os.close(told)
            for _ in range(chance.randrange(4)):
                os.read(heard, 1)
            time.sleep(chance.uniform(0.0, 0.03))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(heard)
    found = backend(directory, 1)
    try:
        patiently(lambda: found.supervise(NOW()))
        ready(found)
        service = found.observe(NOW()).services[0]
        time.sleep(0.5)
        found.observe(NOW())
        time.sleep(0.5)
        seen = found.observe(NOW())
        marks = Counter(environ.get("AIOPS_UNIT") for environ in environments(directory))
    finally:
        found.shutdown_units()
        found.close()
    done = effects(directory / "effects.jsonl")
    twice = len(done) - len(set(done))
    extra = sum(count - 1 for count in marks.values()) + max(0, len(marks) - seen.services[0].replicas)
    unaccounted = abs(int(service.version) - 1 - len(done))
    return [
        row(f"effects done twice in {rounds} kills ({len(done)} effects)", twice, "effects", 0, {}),
        row(f"units doubled in {rounds} kills", extra, "units", 0, {}),
        row("effects cut off before their done line, left to a probe", unaccounted, "effects", None, {}),
    ]


def environments(directory: Path) -> list[dict[str, str]]:
    """Environments of live units of this state directory (their working log tells whose they are)."""
    out = []
    for path in (directory / "units").glob("*/identity.json"):
        pid = json.loads(path.read_text())["pid"]
        try:
            if pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                out.append(psutil.Process(pid).environ())
        except psutil.Error:
            continue
    return out


def act_for_ever(directory: Path, turn: int, told: int) -> None:
    """The process that is killed."""
    try:
        found = backend(directory, 1)
        count = 0
        while True:
            patiently(lambda: found.supervise(NOW()))
            os.write(told, b".")
            scale(found, f"r{turn}-{count}", 1 + (turn + count) % 3)
            count += 1
    finally:
        os._exit(1)


def patiently(call) -> None:
    """A child of the dead that has not reached its exec holds the lock for a moment."""
    for _ in range(500):
        try:
            call()
            return
        except Unreadable:
            time.sleep(0.004)


def row(figure: str, value: float, unit: str, goal: float | None, baseline: dict[str, float]) -> dict:
    """One figure."""
    return {"figure": figure, "value": value, "unit": unit, "goal": goal, "better": "lower", "baseline": baseline}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        rows = observing(place / "observe", 20 if options.quick else 100, 50 if options.quick else 300)
        rows += acting(place / "act", 20 if options.quick else 100)
        rows += killing(place / "kill", 20 if options.quick else 300)
    table = Table("figure", "value", "unit", "goal", "baseline")
    for one in rows:
        beside = ", ".join(f"{key} {value:.4g}" for key, value in one["baseline"].items())
        missed = one["goal"] is not None and one["value"] > one["goal"]
        goal = "" if one["goal"] is None else f"{one['goal']:g}" + (" MISSED" if missed else "")
        table.add_row(one["figure"], f"{one['value']:.4g}", one["unit"], goal, beside)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
