"""A case: a world, a fault at a known time, what was measured, and the truth; in memory, or as a folder of files.

A fault is made stronger until it hurts: the step of the first job, before any noise of measurement, at least a quarter
longer. `at` is when that has been visible for a few seconds; a scorer adds the lag of whoever calls for a diagnosis.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aiops.sim.faults.draw import draw_world
from aiops.sim.faults.drive import Drive, ordinary
from aiops.sim.faults.kinds import KINDS, Kind
from aiops.sim.faults.names import Names, topology
from aiops.sim.faults.physics import Trace, run
from aiops.sim.faults.sensors import LIES, Breakage, Row, read
from aiops.sim.faults.world import Floats, World

EPOCH = 1_790_000_000.0
AFTER_S = 200
SLOWEST_S = 150
HURTS = 1.25
VISIBLE = 1.15
TWO = "two"

TAGS = (
    ("job_step_duration_seconds", "external", "up"),
    ("job_*_wait_seconds_total", "external", "up"),
    ("job_compute_seconds_total", "internal", "up"),
    ("job_loader_queue_batches", "internal", "down"),
    ("job_samples_total", "external", "none"),
    ("job_checkpoint_seconds_total", "external", "none"),
    ("job_steps_total", "external", "down"),
    ("gpu_temperature_celsius", "internal", "up"),
    ("gpu_clock_hertz", "internal", "down"),
    ("gpu_power_limit_watts", "internal", "down"),
    ("gpu_throttle_active*", "internal", "up"),
    ("gpu_xid_errors_total", "internal", "up"),
    ("gpu_ecc_errors_total*", "internal", "up"),
    ("gpu_pcie_bytes_total*", "external", "none"),
    ("gpu_*", "internal", "none"),
    ("node_cpu_seconds_total*", "internal", "none"),
    ("node_load1", "internal", "up"),
    ("node_pressure_*", "internal", "up"),
    ("node_memory_MemAvailable_bytes", "internal", "down"),
    ("node_vmstat_pgmajfault", "internal", "up"),
    ("node_disk_io_*", "internal", "up"),
    ("node_disk_read_time_seconds_total", "external", "up"),
    ("node_disk_*", "external", "none"),
    ("node_infiniband_port_transmit_wait_total", "external", "up"),
    ("node_infiniband_np_ecn_marked_roce_packets_total", "external", "up"),
    ("node_infiniband_symbol_error_total", "internal", "up"),
    ("node_infiniband_rate_bytes_per_second", "internal", "down"),
    ("node_infiniband_*", "external", "none"),
    ("service_latency_seconds", "external", "up"),
    ("service_requests_total", "external", "none"),
)
"""What a person who writes a topology would say of each metric; the first match counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`times` (n,) Unix seconds, `rows` of (entity, metric, (n,) values), the declared graph, and the truth."""

    name: str
    times: Floats
    rows: Sequence[Row]
    topology: dict[str, Any]
    truth: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Blow:
    """One fault of a case: kind by name, how strong, and the seed of its choices (the same at every strength)."""

    name: str
    strength: float
    seed: int

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]


def make_case(name: str, seed: int, step_s: int = 1) -> Case:
    """A case of the kind `name` (see KINDS, or `two`), sampled every `step_s` seconds. Equal arguments, equal case."""
    for attempt in range(100):  # some worlds are immune to some faults: another one is drawn
        rng = np.random.default_rng([seed, attempt, *name.encode()])
        names = (
            [name] if name != TWO else [str(n) for n in rng.choice([n for n, k in KINDS.items() if k.hurts], 2, replace=False)]
        )
        case = _attempt(name, names, seed, rng)
        if case is not None:
            return replace(case, times=case.times[::step_s], rows=[(e, m, v[::step_s]) for e, m, v in case.rows])
    raise ValueError(f"no world was found that {name} with seed {seed} hurts")


def _attempt(name: str, names: Sequence[str], seed: int, rng: np.random.Generator) -> Case | None:
    kinds = [KINDS[each] for each in names]
    world = draw_world(rng, any(kind.pipeline for kind in kinds), any(kind.spread for kind in kinds))
    if any(kind.service for kind in kinds) and not world.services:
        return None
    onset = int(rng.integers(420, 901))
    stage = _Stage(world, onset, int(rng.integers(2**31)))
    blows = [stage.strengthen(_Blow(each, float(rng.uniform(0.12, 0.5)), int(rng.integers(2**31)))) for each in names]
    alone = [stage.strike([blow])[1] for blow in blows]
    drive, trace, blamed = stage.play(blows)
    hurt = stage.hurt(trace)
    if any(blow.kind.hurts for blow in blows) and hurt < HURTS:
        return None
    if len(blows) > 1 and (hurt < 1.1 * max(alone) or len(set(blamed)) < len(blamed)):
        return None  # one hides the other
    visible = onset if hurt < HURTS else stage.visible(trace)
    if visible - onset > SLOWEST_S:
        return None
    broken, keep = _breakage(name, blamed[0], onset, rng), visible + AFTER_S
    rows = [(entity, metric, values[:keep]) for entity, metric, values in read(world, drive, trace, rng, broken)]
    graph = topology(world) | {"metrics": [{"match": m, "side": s, "worse": w} for m, s, w in TAGS]}
    start = EPOCH + 10_000.0 * (seed % 10_000)
    when = {"at": start + visible + 5.0, "onset": start + onset, "visible": start + visible}
    what = {"kind": name, "sli": _sli(name, broken, blamed[0], world), "candidates": len(graph["entities"])}
    truth = what | when | _answer(names, blamed) | {"hurt": round(hurt, 3), "pinned": world.pinned_utilisation}
    return Case(
        name=f"{name}-{seed:04d}", times=start + np.arange(keep, dtype=np.float64), rows=rows, topology=graph, truth=truth
    )


def _answer(names: Sequence[str], blamed: Sequence[str]) -> dict[str, Any]:
    """What a perfect diagnosis says: of two faults at once, either first."""
    kinds = [KINDS[name] for name in names]
    told: dict[str, Any] = {"entity": blamed[0], "verdict": kinds[0].verdict, "also": list(kinds[0].also)}
    if len(kinds) > 1:
        told |= {"entities": list(blamed), "verdicts": [kind.verdict for kind in kinds], "kinds": list(names)}
    return told


class _Stage:
    """A world and a window on which faults are tried; the ordinary day is the same in every try."""

    def __init__(self, world: World, onset: int, seed: int) -> None:
        self.world, self.onset, self._seed = world, onset, seed
        self._ticks = onset + 2 * AFTER_S
        self._played: dict[tuple[_Blow, ...], tuple[Drive, Trace, list[str]]] = {}

    def play(self, blows: Sequence[_Blow]) -> tuple[Drive, Trace, list[str]]:
        """The drive, the trace and who is to blame, with these faults acting; the same faults are played once."""
        if tuple(blows) not in self._played:
            self._played[tuple(blows)] = self._run(blows)
        return self._played[tuple(blows)]

    def _run(self, blows: Sequence[_Blow]) -> tuple[Drive, Trace, list[str]]:
        drive = ordinary(self.world, self._ticks, np.random.default_rng(self._seed))
        during = slice(self.onset, self._ticks)
        blamed = [b.kind.strike(self.world, drive, during, b.strength, np.random.default_rng(b.seed)) for b in blows]
        return drive, run(self.world, drive, np.random.default_rng(self._seed)), blamed

    def strike(self, blows: Sequence[_Blow]) -> tuple[Trace, float]:
        """The trace with these faults, and by how much the first job's step is longer in it."""
        trace = self.play(blows)[1]
        return trace, self.hurt(trace)

    def strengthen(self, blow: _Blow) -> _Blow:
        """The fault, just as strong as it needs to be to hurt, but no weaker than drawn."""
        while blow.kind.hurts and blow.strength < 3.0 and self.strike([blow])[1] < HURTS:
            blow = replace(blow, strength=blow.strength * 1.5)
        return blow

    def hurt(self, trace: Trace) -> float:
        """Step time of the first job in the end, relative to before."""
        step = trace.step_s[:, 0]
        return float(np.median(step[-AFTER_S:]) / np.median(step[self.onset - 300 : self.onset]))

    def visible(self, trace: Trace) -> int:
        """The first of five ticks in a row with a visibly longer step."""
        step = trace.step_s[:, 0]
        longer = step > VISIBLE * np.median(step[self.onset - 300 : self.onset])
        run_of = np.convolve(longer[self.onset :], np.ones(5), "valid") >= 5
        return self.onset + int(np.argmax(run_of))


def _breakage(name: str, gpu: str, onset: int, rng: np.random.Generator) -> Breakage | None:
    if name == "sensor_frozen":
        return Breakage(gpu, str(rng.choice(["gpu_sm_active_ratio", "gpu_power_watts"])), onset)
    if name == "sensor_lying":
        metric, value = LIES[int(rng.integers(len(LIES)))]
        return Breakage(gpu, metric, onset, value)
    return None


def _sli(name: str, broken: Breakage | None, blamed: str, world: World) -> str:
    if broken is not None and broken.metric == "gpu_sm_active_ratio":
        return f"{broken.entity}:{broken.metric}"  # an idle GPU is what somebody saw
    if KINDS.get(name) and KINDS[name].service:
        return f"{blamed}:service_latency_seconds"
    return f"{Names(world).jobs[0]}:job_step_duration_seconds"


def write_case(case: Case, out: Path) -> Path:
    """The case as a folder under `out`: metrics.csv.gz, topology.yaml, truth.json; its path."""
    import pandas as pd
    from ruamel.yaml import YAML

    folder = out / case.name
    folder.mkdir(parents=True, exist_ok=True)
    n = len(case.times)
    table = pd.DataFrame(
        {
            "time": np.tile([f"{time:.3f}" for time in case.times], len(case.rows)),
            "entity": np.repeat([entity for entity, _, _ in case.rows], n),
            "metric": np.repeat([metric for _, metric, _ in case.rows], n),
            "value": np.concatenate([values for _, _, values in case.rows]),
        }
    ).dropna(subset=["value"])
    table = table.sort_values(["time", "entity", "metric"], kind="stable")
    packed: Any = {"method": "gzip", "mtime": 0, "compresslevel": 3}
    table.to_csv(folder / "metrics.csv.gz", index=False, float_format="%.12g", compression=packed)
    with (folder / "topology.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(case.topology, file)
    (folder / "truth.json").write_text(json.dumps(case.truth, indent=1))
    return folder
