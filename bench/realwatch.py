"""Telemetry of the stage for `realfaults.py`: the product's collectors once per second, their series put on entities."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from realstage import CORES, MEMORY_BYTES, Stage

from aiops.errors import AiopsError
from aiops.model import Batch
from aiops.sim.faults.cases import TAGS, Case
from collectors.jobs import JobsCollector
from collectors.network import NetworkCollector
from collectors.pressure import PressureCollector, PressureOptions
from collectors.storage import StorageCollector, StorageOptions

Place = tuple[str, str]
TENANTS = ("tenant-cpu", "tenant-io", "tenant-mem")
OF_LOADER = ("job_data_wait_seconds_total", "job_loader_queue_batches", "job_knob_value")
OF_DEVICE = ("job_compute_seconds_total", "job_comm_wait_seconds_total", "job_cpu_wait_seconds_total")
TICKS = os.sysconf("SC_CLK_TCK")


class Watch:
    """Looks once per second; `begin` starts a new window, `case` makes a case of it."""

    def __init__(self, stage: Stage, ranks: int) -> None:
        self._stage, self._ranks, self._born = stage, ranks, self.now()
        self._jobs = JobsCollector(stage.folder / "telemetry")
        self._storage = StorageCollector(StorageOptions(ignore_devices=re.compile("(?!" + stage.device + "$).*")))
        self._pressure = PressureCollector(PressureOptions(cgroup=stage.groups[-1].parent, depth=1))
        self._network = NetworkCollector()
        self._seen: list[tuple[float, dict[Place, float]]] = []
        self._machine_busy: list[tuple[float, float]] = []
        self._used: dict[str, dict[int, tuple[float, float]]] = {tenant: {} for tenant in TENANTS}

    @staticmethod
    def now() -> float:
        """Wall-clock time, as the series carry it."""
        return time.time()

    def begin(self) -> None:
        """Forget what was seen; the next window starts now."""
        self._seen, self._machine_busy = [], []

    def look(self, seconds: int) -> None:
        """Collect once per second, that many times."""
        for _ in range(seconds):
            started = time.monotonic()
            now = self.now()
            self._seen.append((now, self._everything(now)))
            time.sleep(max(1.0 - (time.monotonic() - started), 0.0))

    def until_steady(self, job: list[subprocess.Popen[bytes]], patience_s: float = 60.0) -> None:
        """Wait until every rank has made steps for some seconds."""
        until, first = time.monotonic() + patience_s, None
        while time.monotonic() < until:
            if any(process.poll() is not None for process in job):
                raise RuntimeError((self._stage.folder / "log").read_text()[-2000:])
            with contextlib.suppress(AiopsError):
                batch = self._jobs.collect(self.now())
                going = [v > 20 for k, v in zip(batch.keys, batch.values, strict=True) if k.metric == "job_steps_total"]
                first = (first or time.monotonic()) if len(going) == self._ranks and all(going) else None
            if first is not None and time.monotonic() - first > 4.0:
                return
            time.sleep(0.5)
        raise RuntimeError("the job does not get going")

    def _everything(self, now: float) -> dict[Place, float]:
        seen: dict[Place, float] = {}
        steps: list[float] = []
        for key, value in _pairs(self._jobs.collect(now)):
            rank = key.label("rank")
            if key.metric in OF_LOADER:
                knob = key.label("knob")
                whose = "job" if knob and self._ranks == 1 else f"loader-{rank}"  # with one rank its knobs are the job's
                seen[whose, f'{key.metric}{{knob="{knob}"}}' if knob else key.metric] = value
            elif key.metric in OF_DEVICE:
                seen[f"device-{rank}", key.metric] = value
            elif key.metric == "job_step_duration_seconds":
                steps.append(value)
            elif key.metric == "job_steps_total" and rank == "0":  # all ranks make the same steps
                seen["job", key.metric] = value
            elif key.metric == "job_samples_total":
                seen["job", key.metric] = seen.get(("job", key.metric), 0.0) + value
                seen[f"loader-{rank}", key.metric] = value
        seen["job", "job_step_duration_seconds"] = float(np.mean(steps)) if steps else np.nan
        if self._ranks > 1:
            seen["ring-job", "job_comm_wait_seconds_total"] = sum(
                seen[f"device-{rank}", "job_comm_wait_seconds_total"] for rank in range(self._ranks)
            )
        return seen | self._machine(now) | self._neighbours()

    def _machine(self, now: float) -> dict[Place, float]:
        seen: dict[Place, float] = {}
        for key, value in _pairs(self._storage.collect(now)):
            if key.label("device") == self._stage.device and key.metric.startswith("node_disk"):
                seen["vol", key.metric] = value
        for key, value in _pairs(self._pressure.collect(now)):
            if self._stage.name in (key.label("cgroup") or ""):  # the cgroup is the host: its pressure is the host's
                seen["host-0", key.metric.replace("cgroup_pressure", f"node_pressure_{key.label('resource')}")] = value
        if self._ranks > 1:
            for key, value in _pairs(self._network.collect(now)):
                if key.label("device") == self._stage.near:
                    seen["nic-0", key.metric] = value
        _, account, _, memory, _ = self._stage.groups
        usage = int((account / "cpuacct.usage").read_text()) / 1e9
        self._machine_busy.append((now, _busy_s() - usage))
        seen["host-0", 'node_cpu_seconds_total{mode="user"}'] = usage
        seen["host-0", 'node_cpu_seconds_total{mode="idle"}'] = (now - self._born) * CORES - usage
        stat = {name: float(value) for name, value in map(str.split, (memory / "memory.stat").read_text().splitlines())}
        seen["host-0", "node_memory_MemAvailable_bytes"] = MEMORY_BYTES - stat["total_rss"] - stat["total_shmem"]
        seen["host-0", "node_vmstat_pgmajfault"] = stat["total_pgmajfault"]
        return seen

    def _neighbours(self) -> dict[Place, float]:
        """What each tenant has used, from the accounts of its processes, those that ended included."""
        seen: dict[Place, float] = {}
        for tenant in TENANTS:
            for process in self._stage.tenants.get(tenant, ()):
                with contextlib.suppress(OSError, IndexError):
                    self._used[tenant][process.pid] = _account(process.pid)
            used = self._used[tenant].values()
            seen[tenant, "node_cpu_seconds_total"] = sum(seconds for seconds, _ in used)
            seen[tenant, "node_disk_read_bytes_total"] = sum(read for _, read in used)
        return seen

    def outside(self, onset: float) -> dict[str, float]:
        """Cores that others used on this machine before and after the onset: no case's evidence, but a reader's doubt."""
        times, used = np.array(self._machine_busy).T
        rate, late = np.diff(used) / np.diff(times), times[1:] > onset
        return {"outside_before": round(float(rate[~late].mean()), 2), "outside_after": round(float(rate[late].mean()), 2)}

    def case(self, truth: dict[str, Any]) -> Case:
        """The window as a case."""
        places = sorted({place for _, values in self._seen for place in values})
        rows = [(e, m, np.array([values.get((e, m), np.nan) for _, values in self._seen])) for e, m in places]
        graph = self._topology()
        truth = truth | {"candidates": len(graph["entities"])}
        return Case(name="", times=np.array([at for at, _ in self._seen]), rows=rows, topology=graph, truth=truth)

    def _topology(self) -> dict[str, Any]:
        kinds = {"job": "job", "vol": "volume", "host-0": "host", **dict.fromkeys(TENANTS, "tenant")}
        edges = [("vol", "tenant-io"), *(("host-0", tenant) for tenant in TENANTS)]
        for rank in range(self._ranks):
            device, loader = f"device-{rank}", f"loader-{rank}"
            kinds |= {device: "gpu", loader: "loader"}
            edges += [("job", device), (device, loader), (device, "host-0"), (loader, "vol"), (loader, "host-0")]
            edges += [("ring-job", device)] if self._ranks > 1 else []
        if self._ranks > 1:
            kinds |= {"ring-job": "collective", "nic-0": "nic", "link-0": "link"}
            edges += [("job", "ring-job"), ("ring-job", "nic-0"), ("nic-0", "link-0")]
        return {
            "entities": [{"id": entity, "type": kind} for entity, kind in kinds.items()],
            "edges": [{"from": effect, "to": cause} for effect, cause in edges],
            "metrics": [{"match": m, "side": s, "worse": w} for m, s, w in TAGS],
        }


def _pairs(batch: Batch) -> list[tuple[Any, float]]:
    return list(zip(batch.keys, batch.values.tolist(), strict=True))


def _busy_s() -> float:
    """CPU seconds that anything used on this machine."""
    user, nice, system, _, _, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / TICKS


def _account(pid: int) -> tuple[float, float]:
    """CPU seconds and bytes read by a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    read = next(line for line in Path(f"/proc/{pid}/io").read_text().splitlines() if line.startswith("read_bytes"))
    return (int(fields[11]) + int(fields[12])) / TICKS, float(read.split()[1])


def n_sigma(folder: Path, at: float) -> str:
    """The entity whose rate or gauge is most standard deviations off at `at`: the simplest published scorer."""
    import pandas as pd

    table = pd.read_csv(folder / "metrics.csv.gz")
    best: dict[str, float] = defaultdict(float)
    told = table.groupby(["entity", "metric"], sort=True)
    for (entity, metric), rows in told:
        values = rows["value"].to_numpy()
        values = np.diff(values, prepend=values[0]) if "_total" in metric or "pgmajfault" in metric else values
        late = rows["time"].to_numpy() >= at
        if late.any() and not late.all():
            spread = values[~late].std() or 1.0
            best[entity] = max(best[entity], float(np.abs(values[late] - values[~late].mean()).max() / spread))
    best.pop("job", None)  # the SLI itself explains nothing
    return max(sorted(best), key=lambda entity: best[entity])
