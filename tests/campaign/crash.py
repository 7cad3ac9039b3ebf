"""Kill the real daemon with the local backend, again and again: at every named failpoint, then at random times.

    python tests/campaign/crash.py [--kills 1000] [--seconds 3600] [--seed 1] [--no-sweep]        (make campaign-crash)

Each life is a process `aiops run --config ...` of its own, with everything that is in one. Its plug-ins (`churn.py`) shorten
the lease from 13 s to 0.6 s, since each life would else wait for that of the one before, and hold the failpoints; nothing else
is different. Half of the random kills fall anywhere between the start of the process and a little after it is up (migration,
lease, first look, first cycle), half within the first second of cycles of 100 ms. At the end one life is left in peace until
everything is judged: 0 effects twice, 0 recorded permissions without a ledger entry, 0 entries open, 0 broken invariants
(`aiops.decide.check`).
"""

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from churn import DIE_AT, STORE_POINTS, Armed, installed, plugin_paths

from aiops.action import EntryState, Order, OrderKind
from aiops.codec import decode
from aiops.decide.check import EffectRecord, Trace, Violation, check
from aiops.decide.limits import Limits
from aiops.settings import Settings
from aiops.snapshot import Decided
from aiops.store.opening import open_store

BACKEND_POINTS = (
    "before_save", "after_save", "before_launch", "after_launch", "after_begin", "after_state", "after_effect",
    "before_compact", "after_compact",
)  # fmt: skip
POINTS = BACKEND_POINTS + STORE_POINTS
LIMITS = {
    "cooldown_s": 0.05, "destructive_cooldown_s": 0.05, "breaker_failures": 1_000_000, "window_s": 1.0, "nodes_ratio": 1.0,
    "gpus": 10_000, "approve_gpus": 10_000, "jobs": 1000,
}  # fmt: skip


def config(place: Path) -> dict[str, Any]:
    """A small house that changes something in every cycle of 100 ms, as its configuration file says it."""
    sleep = ["sleep", "600"]
    backend = {
        "state_dir": str(place / "local"), "cgroups": "off", "ports": [41000, 41099],
        "nodes": {"n0": {"gpus": 2}, "n1": {"gpus": 2}, "n2": {"gpus": 2}},
        "services": {"web": {"command": sleep, "target": 1, "max": 3, "drain": "10ms", "kill_wait": "100ms"}},
        "jobs": {"train": {"command": sleep, "gpus": 1, "knobs": {"workers": {"value": 1, "min": 1, "max": 4}}}},
        "links": {"disk": {"capacity": "1G"}},
    }  # fmt: skip
    return {
        "data_dir": str(place), "backend": {"armed": backend}, "collectors": {}, "diagnosers": {}, "limits": LIMITS,
        "policies": {"churn": {"mode": "act"}}, "listen": {"port": 0},
        "every": {"tick": 0.1, "scrape": 3600, "diagnose": 3600, "forecast": 3600},
    }  # fmt: skip


def settings(place: Path) -> Settings:
    """The same, read."""
    return Settings(**config(place))


@dataclass
class Life:
    """One `aiops run` over `place`; `armed` is `point:nth`, or '' for none."""

    place: Path
    armed: str = ""

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "aiops.cli.main", "run", "--config", str(self.place / "aiops.yaml")]
        paths = [*plugin_paths(self.place / "plugins"), *sys.path]
        told = {**os.environ, DIE_AT: self.armed, "PYTHONPATH": os.pathsep.join(paths)}
        with (self.place / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=told, cwd=self.place, stdout=subprocess.PIPE, stderr=log)
        self.began = time.monotonic()

    def ready(self, patience_s: float) -> bool:
        """Wait for the line that says that the first cycle is done; False where it did not come, or the process died."""
        out = self.process.stdout
        assert out is not None
        return bool(select.select([out], [], [], patience_s)[0]) and bool(out.readline())

    def end(self, patience_s: float) -> bool:
        """Wait so long for the process to end by itself, then kill it; True if it had died by a signal of its own making."""
        try:
            died = self.process.wait(max(0.0, patience_s)) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            died = False
        if self.process.stdout is not None:
            self.process.stdout.close()
        return died


def sweep(place: Path) -> dict[str, int]:
    """Die at every named point, the first and a later time it is reached; how often each was."""
    seldom = {point: (1,) for point in POINTS if "compact" in point}  # after every hundred actions: wait for it
    return {
        point: sum(Life(place, f"{point}:{nth}").end(60.0) for nth in seldom.get(point, (1, 3))) for point in sorted(POINTS)
    }


def kill_at_random(place: Path, kills: int, chance: random.Random, until: float) -> int:
    """Kill -9 `kills` lives at random times, or as many as fit before `until`; how many were."""
    start_s = 2.0  # how long a start takes is seen on the way
    for done in range(kills):
        if time.monotonic() > until:
            return done
        life = Life(place)
        if done % 2 and life.ready(30.0):
            start_s = time.monotonic() - life.began
            life.end(chance.uniform(0.0, 1.0))
        else:
            life.end(chance.uniform(0.0, 1.25 * start_s))
        print(f"\r{done + 1} kills", end="", file=sys.stderr, flush=True)
    return kills


@dataclass(frozen=True)
class Findings:
    """What a campaign left behind, counted."""

    cycles: int
    effects: int
    twice: int
    lost: int
    open: int
    uncounted: int
    violations: tuple[Violation, ...]

    @property
    def clean(self) -> bool:
        """True where nothing went wrong."""
        return not (self.twice or self.lost or self.open or self.uncounted or self.violations)


def settle(place: Path, patience_s: float = 30.0) -> None:
    """Leave a daemon in peace until nothing that was intended before is open, then stop it properly."""
    life = Life(place)
    life.ready(30.0)
    time.sleep(6.0)  # longer than the deadline of an action
    store = open_store(None, settings(place))
    store.put_order(Order(id="peace", at=time.time(), by="campaign", kind=OrderKind.KILL))  # what is open is still judged
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and store.entries(0.0, only_open=True):
        time.sleep(0.5)
    store.close()
    life.process.send_signal(signal.SIGTERM)
    life.end(25.0)


def journal(place: Path) -> Counter[bytes]:
    """Every line that the effect journal ever had: what was shortened away was copied before."""
    lines: Counter[bytes] = Counter()
    for path in (*sorted((place / "local/kept").glob("*.jsonl")), place / "local/effects.jsonl"):
        lines |= Counter(path.read_bytes().splitlines())
    return lines


def judge(place: Path) -> Findings:
    """Hold everything that was recorded against everything that was done."""
    store = open_store(None, settings(place))
    ids = store.cycles(0.0, 1e12)
    cycles = tuple((seen, decode(Decided, raw)) for seen, raw in map(store.cycle, ids))
    every = store.entries(0.0, limit=10**7)
    store.close()
    states = {entry.admission.id: entry.state for entry in every}
    permitted = {a.id for _, decided in cycles for a in decided.admissions if a.permitted}
    rows = [orjson.loads(line) for line in journal(place).elements()]
    done = Counter(row["id"] for row in rows if row["what"] == "done")
    begun = {row["id"]: row for row in sorted(rows, key=lambda row: -row.get("at", 0.0)) if row["what"] == "begin"}
    happened = [id for id in begun if id in done or states.get(id) is EntryState.CONFIRMED]
    epochs = [(seen.now, seen.epoch) for seen, _ in cycles]
    trace = Trace(
        cycles=cycles, entries=every, now=cycles[-1][0].now,
        effects=tuple(_effect(begun[id], epochs) for id in sorted(happened, key=lambda id: begun[id]["at"])),
    )  # fmt: skip
    open_now = sum(state in (EntryState.INTENT, EntryState.SENT) for state in states.values())
    return Findings(
        cycles=len(cycles), effects=len(happened), twice=sum(count > 1 for count in done.values()),
        lost=len(permitted - states.keys()), open=open_now, uncounted=abs(scaled(place) - scales(begun, happened)),
        violations=check(trace, Limits.from_settings(LIMITS, "campaign")),
    )  # fmt: skip


def scaled(place: Path) -> int:
    """How often the service really was scaled: its version counts each change, whoever asked for it."""
    state = orjson.loads((place / "local/state.json").read_bytes())
    return int(state["services"]["web"]["version"]) - 1


def scales(begun: dict[str, dict[str, Any]], happened: list[str]) -> int:
    """How often the record says that the service was scaled."""
    return sum(begun[id]["kind"] == "scale_service" for id in happened)


def _effect(row: dict[str, Any], epochs: list[tuple[float, int]]) -> EffectRecord:
    leader = max((epoch for at, epoch in epochs if at <= row["at"]), default=0)
    return EffectRecord(
        id=row["id"], kind=row["kind"], target=row["target"], at=row["at"], elapsed=row["at"],
        epoch=int(row["id"].partition("-")[0]), leader_epoch=leader,
    )  # fmt: skip


def campaign(place: Path, asked: argparse.Namespace) -> tuple[dict[str, int], int, Findings]:
    """Sweep, random kills, peace, judgement."""
    until = time.monotonic() + asked.seconds
    (place / "aiops.yaml").write_bytes(orjson.dumps(config(place)))  # JSON is YAML
    with installed(place / "plugins"):
        reached = sweep(place) if asked.sweep else {}
        killed = kill_at_random(place, asked.kills, random.Random(asked.seed), until)
        settle(place)
        found = judge(place)
        backend = Armed.from_settings(config(place)["backend"]["armed"], "campaign")
        backend.shutdown_units()
        backend.close()
    return reached, killed, found


def main() -> int:
    """Print the counts; 0 where all is well."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=1000)
    options.add_argument("--seconds", type=float, default=3600.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--sweep", action=argparse.BooleanOptionalAction, default=True)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="campaign-") as place:
        reached, killed, found = campaign(Path(place), asked)
    print("died at failpoints: " + ", ".join(f"{point} {count}" for point, count in reached.items()))
    print(f"killed at random: {killed} of {asked.kills} (seed {asked.seed})")
    print(f"{found.cycles} cycles, {found.effects} effects: {found.twice} twice, {found.uncounted} not accounted for")
    print(f"decisions lost: {found.lost}; intents open: {found.open}; invariants broken: {len(found.violations)}")
    for violation in found.violations[:10]:
        print(f"  {violation.rule} {violation.id}: {violation.detail}", file=sys.stderr)
    return 0 if found.clean and all(reached.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
