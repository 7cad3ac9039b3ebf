"""Real faults on this machine: does the diagnosis name what was really done to a real training job?

    bench/realfaults.py [--runs 10] [--faults disk,cpu,...] [--keep DIR] [--rescore DIR] [--quick] [--json OUT]

A PyTorch CPU training loop (`examples/train.py`) reads samples with O_DIRECT from a shared volume; after an undisturbed
window something is done to it. Telemetry comes from `aiops.jobs` and the product's own collectors, once per second; the
recorded window goes to `aiops diagnose` as a user's would. `--keep` leaves the cases as folders, `--rescore` diagnoses
such folders again without touching the machine. Baselines see the same files: chance, and N-sigma on rates.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from realstage import GROW, NEAR, SPIN, Stage, end, missing
from realwatch import Watch
from rich.console import Console
from rich.progress import track

from aiops.cli.diagnose import read_panel, to_plain
from aiops.diagnose.analysis import investigate
from aiops.diagnose.topology import parse_topology
from aiops.settings import load_yaml
from aiops.sim.faults.cases import Case, write_case
from aiops.sim.faults.score import ABSTAINED, Outcome, judge

ROOT = Path(__file__).parents[1]
BEFORE_S, DURING_S, NOTICED_S, REST_S = 25, 9, 7, 5
FILLING_S = 7
"""What a hog needs to fill the memory on a busy machine: until then there is no fault."""
PAGING_S = 20
"""What a job needs to have its memory back when the hog is gone: the next window begins undisturbed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is done, undone, and what a right answer is; how many `ranks` the job needs to feel it, how long it `grows_s`.

    `rest_s` is how long the job needs until nothing of it is felt any more.
    """

    start: Callable[[Stage], None]
    stop: Callable[[Stage], None]
    verdicts: tuple[str, ...]
    entities: tuple[str, ...]
    ranks: int = 1
    grows_s: int = 0
    rest_s: int = REST_S


def turn(rank: int, **knobs: float) -> Callable[[Stage], None]:
    """What the job's owner does: turn knobs of one rank."""
    return lambda stage: write_knobs(stage, rank, knobs)


def write_knobs(stage: Stage, rank: int, knobs: Mapping[str, float]) -> None:
    """Replace a rank's knobs."""
    path = stage.folder / f"control-{rank}" / "knobs.json"
    path.with_suffix(".new").write_text(json.dumps(knobs))
    path.with_suffix(".new").replace(path)


def read_hog(stage: Stage) -> None:
    """A scan like a neighbour's job: 32 requests of 1 MiB in flight; threads, because its processes leave their session."""
    where = f"--filename={stage.data}/samples"
    load = ["--rw=randread", "--bs=1M", "--direct=1", "--ioengine=libaio", "--iodepth=16", "--numjobs=2", "--thread"]
    stage.disturb("tenant-io", ["fio", "--name=scan", where, *load, "--runtime=600", "--time_based"])


FAULTS = {
    "disk": Fault(
        start=read_hog,
        stop=lambda stage: stage.quiet("tenant-io"),
        verdicts=("noisy_neighbour", "io_stall"),
        entities=("tenant-io", "vol"),
    ),
    "cpu": Fault(
        start=lambda stage: stage.disturb("tenant-cpu", SPIN, copies=4),
        stop=lambda stage: stage.quiet("tenant-cpu"),
        verdicts=("cpu_contention", "prep_stall", "noisy_neighbour"),
        entities=("host-0", "tenant-cpu"),
    ),
    "memory": Fault(
        start=lambda stage: stage.disturb("tenant-mem", GROW),
        stop=lambda stage: stage.quiet("tenant-mem"),
        verdicts=("memory_pressure",),
        entities=("host-0", "tenant-mem"),
        grows_s=FILLING_S,
        rest_s=PAGING_S,
    ),
    "workers": Fault(start=turn(0, loader_workers=0), stop=turn(0), verdicts=("prep_stall",), entities=("loader-0", "host-0")),
    "link": Fault(
        start=lambda stage: stage.throttle_link("300mbit"),
        stop=lambda stage: stage.throttle_link(None),
        verdicts=("net_contention",),
        entities=("nic-0", "link-0", "ring-job"),
        ranks=2,
    ),
    "rank": Fault(
        start=lambda stage: stage.slow_rank(1),
        stop=lambda stage: stage.restore_ranks(),
        verdicts=("straggler",),
        entities=("device-1",),
        ranks=2,
    ),
    "batch": Fault(start=turn(0, batch_size=14), stop=turn(0), verdicts=("load_change",), entities=("job",)),
    "none": Fault(start=lambda stage: None, stop=lambda stage: None, verdicts=("none", *ABSTAINED), entities=("job",)),
}


def launch(stage: Stage, ranks: int, seconds: float) -> list[subprocess.Popen[bytes]]:
    """Start the job, one process per rank, the second at the far end of the link."""
    telemetry = stage.folder / "telemetry"
    shutil.rmtree(telemetry, ignore_errors=True)  # what the last job left would pass for a rank of this one
    telemetry.mkdir()
    started = []
    for rank in range(ranks):
        (stage.folder / f"control-{rank}").mkdir(exist_ok=True)
        write_knobs(stage, rank, {})
        environment = {
            "AIOPS_JOB_ID": "job", "AIOPS_RUN_ID": "1", "AIOPS_TELEMETRY": str(telemetry), "PYTHONPATH": str(ROOT),
            "AIOPS_CONTROL_DIR": str(stage.folder / f"control-{rank}"), "RANK": str(rank), "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": NEAR, "MASTER_PORT": "29517", "GLOO_SOCKET_IFNAME": "far" if rank else stage.near,
        }  # fmt: skip
        width = "512" if ranks == 1 else "256"
        command = [sys.executable, str(ROOT / "examples" / "train.py"), str(stage.data), "--width", width]
        started.append(stage.start([*command, "--seconds", str(seconds)], far=bool(rank), **environment))
    return started


def episodes(stage: Stage, name: str, count: int) -> list[Case]:
    """Disturb one job `count` times; each time a window of its own with an undisturbed start."""
    fault = FAULTS[name]
    job = stage.ranks = launch(stage, fault.ranks, 600.0)
    watch = Watch(stage, fault.ranks)
    try:
        watch.until_steady(job)
        cases = []
        for _ in range(count):
            watch.begin()
            watch.look(BEFORE_S)
            onset = watch.now()
            fault.start(stage)
            watch.look(fault.grows_s + DURING_S)
            fault.stop(stage)
            cases.append(watch.case(truth(name, fault, onset) | watch.outside(onset)))
            time.sleep(fault.rest_s)
        return cases
    finally:
        stage.restore_ranks()
        for process in job:
            end(process)


def truth(name: str, fault: Fault, onset: float) -> dict[str, Any]:
    """The truth of a run in the format of the simulator's cases."""
    return {
        "entity": fault.entities[0], "kind": name, "at": onset + fault.grows_s + NOTICED_S, "onset": onset,
        "visible": onset + fault.grows_s,
        "sli": "job:job_step_duration_seconds", "verdict": fault.verdicts[0], "also": list(fault.verdicts[1:]),
        "any_of": list(fault.entities),
    }  # fmt: skip


def diagnose(folder: Path) -> dict[str, Any]:
    """The report of `aiops diagnose` on a case folder: the command's own steps, without starting a process."""
    told = json.loads((folder / "truth.json").read_text())
    path = folder / "topology.yaml"
    graph = parse_topology(load_yaml(path), str(path))
    return to_plain(investigate(read_panel(folder / "metrics.csv.gz"), graph, told["at"], told["sli"]).report)


def assess(folder: Path, report: Mapping[str, Any]) -> Outcome:
    """Judge a report; where several entities are right (the neighbour, the volume it floods) the best placed counts."""
    told = json.loads((folder / "truth.json").read_text())
    best = [
        judge(Case(name="", times=np.empty(0), rows=(), topology={}, truth=told | {"entity": e}), report)
        for e in told["any_of"]
    ]
    placed = min(best, key=lambda outcome: outcome.place or 10**6)
    return replace(placed, chance=len(told["any_of"]) / told["candidates"])


def print_tables(outcomes: list[Outcome], sigma: float) -> None:
    """The confusion matrix and the shares, per class."""
    verdicts = sorted({outcome.verdict for outcome in outcomes})
    print(f"{'done to the job':16s}{'n':>4s}{'right':>8s}{'AC@1':>7s}   verdicts given")
    for name in FAULTS:
        mine = [outcome for outcome in outcomes if outcome.kind == name]
        if mine:
            given = Counter(outcome.verdict for outcome in mine)
            right, first = (np.mean([o.right for o in mine]), np.mean([o.place == 1 for o in mine]))
            first_text = "" if name == "none" else f"{first:7.2f}"
            shown = ", ".join(f"{verdict} {given[verdict]}" for verdict in verdicts if given[verdict])
            print(f"{name:16s}{len(mine):4d}{right:8.2f}{first_text:>7s}   {shown}")
    blamed = [o for o in outcomes if o.truth not in ABSTAINED]
    if blamed:
        chance = np.mean([o.chance for o in blamed])
        ours = np.mean([o.place == 1 for o in blamed])
        print(f"AC@1 over faults: aiops {ours:.2f}, N-sigma on rates {sigma:.2f}, chance {chance:.2f} (n={len(blamed)})")


def n_sigma_hits(folders: list[Path]) -> float:
    """AC@1 of the largest deviation in standard deviations, on the rates of the same files."""
    from realwatch import n_sigma

    hits = []
    for folder in folders:
        told = json.loads((folder / "truth.json").read_text())
        if told["verdict"] not in ABSTAINED:
            hits.append(n_sigma(folder, told["at"]) in told["any_of"])
    return float(np.mean(hits)) if hits else float("nan")


def figures(outcomes: list[Outcome], sigma: float) -> list[dict[str, Any]]:
    """The rows of the JSON report."""
    rows = []
    for name in FAULTS:
        mine = [outcome.right for outcome in outcomes if outcome.kind == name]
        if mine:
            right = float(np.mean(mine))
            rows.append({"figure": f"realfaults {name}: verdict right (n={len(mine)})", "value": right, "unit": "ratio",
                         "goal": 0.9, "better": "higher", "baseline": {"n_sigma_ac1_over_faults": sigma}})  # fmt: skip
    neighbour = [o.verdict == "noisy_neighbour" for o in outcomes if o.kind == "none"]
    if neighbour:
        rows.append({"figure": "realfaults none: a neighbour blamed", "value": float(np.mean(neighbour)), "unit": "ratio",
                     "goal": 0.0, "better": "lower", "baseline": {}})  # fmt: skip
    return rows


def record(names: list[str], runs: int, keep: Path) -> None:
    """Do everything to the job, and keep every run as a case folder as soon as it is there."""
    with Stage() as stage:
        batch = min(runs, 5)  # a fresh job every five runs
        rounds = [(name, first) for first in range(0, runs, batch) for name in names]
        for name, first in track(rounds, description="runs", console=Console(stderr=True)):
            for number, case in enumerate(episodes(stage, name, min(batch, runs - first)), first):
                write_case(replace(case, name=f"{name}-{number:02d}"), keep)


def main() -> None:
    """Record or find cases, diagnose them, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--rescore", type=Path)
    parser.add_argument("--quick", action="store_true", help="one run of one fault")
    parser.add_argument("--record-only", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    runs, names = (1, ["disk"]) if args.quick else (args.runs, args.faults.split(","))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stage is taken down
    reason = "" if args.rescore else missing()
    if reason:
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        where = args.rescore or args.keep or Path(scratch)
        if not args.rescore:
            record(names, runs, where)
        folders = sorted(path.parent for path in where.rglob("truth.json"))
        if args.record_only:
            return
        outcomes = [assess(folder, diagnose(folder)) for folder in folders]
        sigma = n_sigma_hits(folders)
    print_tables(outcomes, sigma)
    if args.json:
        args.json.write_text(json.dumps(figures(outcomes, sigma), indent=1))


if __name__ == "__main__":
    main()
