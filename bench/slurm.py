"""What the Slurm backend costs: observing 1,000 nodes and 10,000 jobs, what it asks of slurmctld, and acting.

The server is a real slurmctld with a real munged. Two of its 1,000 nodes have a slurmd; the others are cloud nodes that never
boot, and need none: 998 jobs hold one of them each and are CONFIGURING, 9,002 wait. Baselines in the same run: the same list by
Slurm's own `squeue --json` (and what reading its JSON costs), and each action's bare command, which is the server's own time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "backends" / "slurm"))

from slurm_server import SlurmServer, found, free_ports, missing, wait_for
from slurm_stage import SlurmStage

from aiops.action import (
    Action,
    ConfirmHold,
    Cordon,
    HoldCapacity,
    Outcome,
    Preempt,
    ReleaseHold,
    Resume,
    Suspend,
    TuneJob,
    Uncordon,
)
from aiops.backends.slurm.picture import node_state
from aiops.model import NodeState
from aiops.testing.backend import admit

NODES, JOBS = 1000, 10_000
INTERVAL_S = 5.0  # the default of `backend.slurm.interval`


class Big(SlurmServer):
    """A slurmctld with many nodes and nobody behind them."""

    def __init__(self) -> None:
        super().__init__(max_job_id=900_000)
        path = self.s / "etc/slurm.conf"
        kept = re.sub(r"^(NodeName|PartitionName|SuspendExcNodes|MaxNodeCount)=.*\n", "", path.read_text(), flags=re.M)
        kept = re.sub(r"^(ResumeProgram|SuspendProgram)=.*$", r"\1=/bin/true", kept, flags=re.M)
        kept = kept.replace("ResumeTimeout=60", "ResumeTimeout=36000")
        names, first = f"g[0001-{NODES - 2:04}]", free_ports(3)
        more = (
            "MaxJobCount=20000", "MaxArraySize=20000",
            "NodeName=DEFAULT CPUs=64 Sockets=2 CoresPerSocket=32 ThreadsPerCore=1 RealMemory=1000000",
            f"NodeName={names} NodeAddr=127.0.0.1 Port={first} Gres=gpu:h200:8 Feature=h200,rack1 State=CLOUD",
            f"NodeName=r[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{first + 1}-{first + 2}] Gres=gpu:h200:8",
            f"PartitionName=train Nodes={names} Default=YES", f"PartitionName=urgent Nodes={names},r[1-2] PriorityTier=100",
        )  # fmt: skip
        path.write_text(kept + "\n".join(more) + "\n")
        (self.s / "etc/gres.conf").write_text(
            f"AutoDetect=off\nNodeName={names} Name=gpu Type=h200 Count=8\n"
            f"NodeName=r[1-2] Name=gpu Type=h200 File={self.s}/dev/nvidia[0-7]\n"
        )

    def start(self) -> None:
        """Munged, slurmctld and two slurmds."""
        run = self.s / "run"
        files = [f"--socket={run}/munge.sock", f"--pid-file={run}/munged.pid", f"--seed-file={run}/munged.seed"]
        key = [f"--key-file={self.s}/etc/munge.key", f"--log-file={self.s}/log/m"]
        self.spawn("munged", [found("munged") or "munged", "-F", "--force", *key, *files])
        wait_for(lambda: (run / "munge.sock").exists(), "munge socket")
        self.start_controller(clean=True)
        for node in ("r1", "r2"):
            self.spawn(node, [found("slurmd") or "slurmd", "-D", "-N", node])
        wait_for(lambda: set(self.run("sinfo", "-h", "-N", "-n", "r1,r2", "-o", "%t").stdout.split()) == {"idle"}, "idle nodes")

    def fill(self) -> None:
        """Arrays are one record until their tasks are told apart; changing all tasks but the last does that."""
        self.submit(f"--array=0-{NODES - 3}", "--gres=gpu:h200:8", "-c8", "--exclusive")
        for _ in range(JOBS % 1000 + 2):
            self.submit("--gres=gpu:h200:8", "--begin=now+36000")
        for i in range(JOBS // 1000 - 1):
            base = self.submit("--array=0-999", "--gres=gpu:h200:8", "-c8", "--begin=now+36000", "-J", f"train-{i}")
            self.run("scontrol", "update", f"JobId={base}_[0-998]", "Nice=5", timeout=60.0)
        deadline = time.monotonic() + 60.0
        while self.allocated() != NODES - 2:
            if time.monotonic() > deadline:
                raise SystemExit("the jobs were not given their nodes within 60 s")
            time.sleep(1.0)  # every look is a list of 10,000 jobs

    def allocated(self) -> int:
        """Jobs that hold nodes."""
        return len(self.run("squeue", "-h", "-t", "CF", "-o", "%i").stdout.split())


@dataclass
class Seen:
    """What a stage asked of slurmctld since `clear`."""

    argv: list[tuple[str, ...]] = field(default_factory=list)

    def lists(self) -> int:
        """Questions for the list of all jobs."""
        whole = [a for a in self.argv if a[0] == "squeue" and not any(x.startswith("--jobs=") for x in a)]
        return len(whole) + sum(a[:1] == ("scontrol",) and a[-2:] == ("show", "job") for a in self.argv)


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def cpu_seconds() -> float:
    """Processor time of this process and of the commands that it has run; not of the daemons, which still run."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def observing(stage: SlurmStage, server: Big, rounds: int) -> list[dict]:
    first = seconds(lambda: whole(stage))
    wall, spent = [], []
    for _ in range(rounds):
        before = cpu_seconds()
        stage.backend._query.forget()
        wall.append(seconds(lambda: whole(stage)))
        spent.append(cpu_seconds() - before)
    squeue, parsing = [], []
    for _ in range(max(2, rounds // 4)):
        started = time.perf_counter()
        text = server.run("squeue", "--json", timeout=60.0).stdout
        squeue.append(time.perf_counter() - started)
        parsing.append(seconds(lambda text=text: orjson.loads(text)))
    base = {"squeue --json alone": statistics.median(squeue), "orjson of its answer": statistics.median(parsing)}
    return [
        row("observe, first", first, "s", 2.0, base),
        row(f"observe, median of {rounds}", statistics.median(wall), "s", 2.0, base),
        row(f"observe, worst of {rounds}", max(wall), "s", 2.0, {}),
        row("observe, processor time with its commands, median", statistics.median(spent), "s", None, {}),
    ]


def whole(stage: SlurmStage) -> None:
    """One observation, which must be complete."""
    seen = stage.observe()
    jobs, gpus = len(seen.jobs), sum(len(node.gpus) for node in seen.nodes)
    if jobs != JOBS or len(seen.nodes) != NODES or gpus != 8 * NODES:
        raise SystemExit(f"an incomplete picture: {jobs} jobs, {len(seen.nodes)} nodes, {gpus} GPUs")


def asking(server: Big, cycles: int) -> list[dict]:
    """Questions per interval of a daemon that looks every second, by manual clock: nothing is waited for."""
    stage = SlurmStage(server, interval=INTERVAL_S, control_dir=None, timeout=60.0)
    stage.backend.observe(stage.now())
    stage.asked.clear()
    start = stage.now() + INTERVAL_S
    for second in range(cycles):
        stage.backend.observe(start + second)
    intervals = cycles / INTERVAL_S
    seen, kinds = Seen(stage.asked), Counter(" ".join(a) for a in stage.asked)
    stage.backend.close()
    print(f"asked in {intervals:g} intervals: " + "; ".join(f"{n} x {k}" for k, n in sorted(kinds.items())), file=sys.stderr)
    return [
        row("lists of jobs asked per interval", seen.lists() / intervals, "", 1.0, {"once per look": INTERVAL_S}),
        row("all questions per interval, four small ones included", len(stage.asked) / intervals, "", None, {}),
    ]


def acting(stage: SlurmStage, server: Big, rounds: int) -> list[dict]:
    """Milliseconds of each kind of action beyond its own bare command; the worst kind is what counts."""
    ids = server.run("squeue", "-h", "-r", "-t", "PD", "-o", "%A").stdout.split()[: 3 * rounds]
    ours: dict[str, list[float]] = {}
    bare: dict[str, list[float]] = {}
    for i in range(rounds):
        for kind, action, command in pairs(stage, server, ids[i * 3 : i * 3 + 3], ("r1", "r2"), i):
            if kind == "hold":
                wait_for(lambda: node_state(stage.backend._query.node("r1")) is NodeState.READY, "r1 in service again")
            ours.setdefault(kind, []).append(applied(stage, action, f"{kind}{i}"))
            bare.setdefault(kind, []).append(run_bare(server, command))
    return beyond(ours, bare)


def running(rounds: int) -> list[dict]:
    """The same for actions on runs, on a small cluster with real slurmds: a run is suspended, resumed and preempted."""
    server = SlurmServer()
    ours: dict[str, list[float]] = {}
    bare: dict[str, list[float]] = {}
    try:
        server.start()
        stage = SlurmStage(server, control_dir=None, preemptible_partitions=["train"])
        for i in range(rounds):
            job, other = (stage.running("-p", "train", "-c1") for _ in range(2))
            stop = Preempt(job=job.id, run_id=job.run_id, on_nodes=job.nodes, checkpoint="", gpus=0, lost_gpu_s=0.0)
            for kind, action, command in (
                ("suspend", Suspend(job=job.id, run_id=job.run_id), ("suspend", other.id)),
                ("resume", Resume(job=job.id, run_id=job.run_id), ("resume", other.id)),
                ("preempt", stop, ("requeue", other.id)),
            ):
                ours.setdefault(kind, []).append(applied(stage, action, f"{kind}{i}"))
                bare.setdefault(kind, []).append(run_bare(server, command))
            server.run("scancel", job.id, other.id)
        stage.backend.close()
    finally:
        server.stop()
    return beyond(ours, bare)


def beyond(ours: dict[str, list[float]], bare: dict[str, list[float]]) -> list[dict]:
    """Rows of what each kind takes beyond the server's own time."""
    figures = []
    for kind, values in ours.items():
        extra, alone = statistics.median(values) - statistics.median(bare[kind]), statistics.median(bare[kind])
        goal = {"the bare command": alone * 1e3}
        figures.append(row(f"{kind}: beyond its bare command, median of {len(values)}", extra * 1e3, "ms", 100.0, goal))
    return figures


def pairs(stage: SlurmStage, server: Big, ids: Sequence[str], nodes: Sequence[str], i: int) -> list[tuple[str, Action, tuple]]:
    """(kind, our action, a bare command that does the like) for one round."""
    job = stage.backend._query.job(ids[0])
    held = stage.backend._query.job(ids[1])
    assert job is not None and held is not None
    server.run("scontrol", "hold", held.address)
    server.run("scontrol", "hold", other := stage.backend._query.job(ids[2]).address)
    uid = f"aiopstest/{nodes[0]}@{stage.backend._query.node(nodes[0]).address}"
    hold = HoldCapacity(hold=f"h{i}", owner=f"user/{server.user}", nodes=(nodes[0],), gpus=8, ttl_s=600.0, fence=1)
    shape = (f"Nodes={nodes[1]}", "Flags=IGNORE_JOBS,MAGNETIC", "StartTime=now", "EndTime=now+600", f"Users={server.user}")
    tune = TuneJob(job=ids[0], run_id=job.run_id, knob="nice", value=7.0 + i, was=float(job.nice))
    return [
        ("nice", tune, ("update", f"JobId={job.address}", "Nice=6")),
        ("release", Resume(job=ids[1], run_id=held.run_id), ("release", other)),
        ("cordon", Cordon(node=nodes[0], uid=uid, reason="x"), ("update", f"NodeName={nodes[1]}", "State=DRAIN", "Reason=x")),
        ("uncordon", Uncordon(node=nodes[0], uid=uid), ("update", f"NodeName={nodes[1]}", "State=RESUME")),
        ("hold", hold, ("create", "reservation", f"ReservationName=bare{i}", *shape)),
        (
            "confirm hold",
            ConfirmHold(hold=f"h{i}", fence=1),
            ("update", "reservation", f"ReservationName=bare{i}", "Duration=UNLIMITED"),
        ),
        ("release hold", ReleaseHold(hold=f"h{i}", fence=1), ("delete", f"ReservationName=bare{i}")),
    ]


def applied(stage: SlurmStage, action: Action, id: str) -> float:
    admission = admit(action, id=id)
    started = time.perf_counter()
    receipt = stage.backend.apply(admission, stage.now())
    taken = time.perf_counter() - started
    if receipt.outcome is not Outcome.DONE:
        raise SystemExit(f"{action.kind} was {receipt}")
    return taken


def run_bare(server: SlurmServer, command: Sequence[str]) -> float:
    argv = [found("scontrol") or "scontrol", *command]
    started = time.perf_counter()
    done = subprocess.run(argv, env=server.env, cwd="/", capture_output=True, check=False, **server.drop)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.decode()}")
    return time.perf_counter() - started


def row(figure: str, value: float, unit: str, goal: float | None, baseline: dict[str, float]) -> dict:
    return {"figure": figure, "value": value, "unit": unit, "goal": goal, "better": "lower", "baseline": baseline}


def measure(quick: bool) -> list[dict]:
    server = Big()
    try:
        server.start()
        server.fill()
        stage = SlurmStage(server, control_dir=None, timeout=60.0)
        rows = observing(stage, server, 5 if quick else 20)
        rows += asking(server, 60)
        rows += acting(stage, server, 5 if quick else 20)
        stage.backend.close()
    finally:
        server.kill_controller()  # ending 10,000 jobs one by one would take longer than all the rest
        server.stop()
    return rows + running(3 if quick else 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if lacking := missing():
        raise SystemExit(f"needs a real Slurm (apt-get install slurmctld slurmd slurm-client munge); not installed: {lacking}")
    rows = measure(args.quick)
    title = (
        f"{NODES:,} nodes, {JOBS:,} jobs, real slurmctld, virtual nodes, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    table = Table(title=title)
    for name in ("figure", "value", "goal", "baseline"):
        table.add_column(name)
    for one in rows:
        beside = ", ".join(f"{name} {value:.3g}" for name, value in one["baseline"].items())
        missed = "  MISS" if one["goal"] is not None and one["value"] > one["goal"] else ""
        goal = "" if one["goal"] is None else f"<= {one['goal']:g}"
        table.add_row(one["figure"], f"{one['value']:.3g} {one['unit']}{missed}", goal, beside)
    Console().print(table)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
