"""Public cluster traces as job traces of `aiops simulate`: what bench/policy.py runs on.

Helios Earth publishes GPUs running and queued per virtual cluster and minute, no jobs. `earth` rebuilds jobs from the
changes: a rise in running GPUs is a start, a fall an end (of the newest job of that very size if there is one, else of the
newest ones), and a start is first served from who queued, in order. Net changes within a minute are lost; restarts look like
new jobs. Philly publishes jobs (about half of the GPU time) without quotas: each virtual cluster gets its mean load over 0.75.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces"
MINUTE_S = 60.0
NODE = 8
LOAD = 0.75


@dataclass
class Rebuilt:
    """Jobs of one virtual cluster while its minutes are walked."""

    queue: str
    queued: deque[list[float]] = field(default_factory=deque)  # [gpus, since]
    running: list[list[float]] = field(default_factory=list)  # [gpus, started, submitted]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def start(self, gpus: float, parts: int, now: float) -> None:
        """So many GPUs start: first those that queued, in order, then new ones in about `parts` jobs."""
        while gpus > 0 and self.queued:
            taken = min(gpus, self.queued[0][0])
            self.running.append([taken, now, self.queued[0][1]])
            self.queued[0][0] -= taken
            gpus -= taken
            if self.queued[0][0] <= 0:
                self.queued.popleft()
        for size in split(int(gpus), parts):
            self.running.append([size, now, now])

    def end(self, gpus: float, now: float) -> None:
        """So many GPUs end."""
        exact = next((one for one in reversed(self.running) if one[0] == gpus), None)
        if exact is not None:
            self.running.remove(exact)
            self.job(gpus, exact, now)
            return
        while gpus > 0 and self.running:
            newest = self.running[-1]
            taken = min(gpus, newest[0])
            self.job(taken, newest, now)
            newest[0] -= taken
            gpus -= taken
            if newest[0] <= 0:
                self.running.pop()

    def job(self, gpus: float, one: list[float], now: float) -> None:
        """One job that ran until now."""
        self.rows.append(
            {"submit": one[2], "job": f"{self.queue}-{len(self.rows)}", "gpus": int(gpus), "duration_s": now - one[1],
             "queue": self.queue, "user": self.queue}
        )  # fmt: skip


def split(gpus: int, parts: int) -> list[int]:
    """So many GPUs in about equal whole parts."""
    parts = max(1, min(parts, gpus))
    return [size for i in range(parts) if (size := gpus * (i + 1) // parts - gpus * i // parts) > 0]


def earth(days: float) -> tuple[pd.DataFrame, dict[str, int], float]:
    """Jobs, quota per virtual cluster, and the GPU-hours that were queued in fact."""
    frame = pd.read_csv(DATA / "helios_earth_2020" / "vc_demand_1min.csv.gz", parse_dates=["time"])
    seconds = (frame["time"] - frame["time"].min()).dt.total_seconds()
    frame = frame.assign(at=seconds)[seconds < days * 86400]
    rows: list[dict[str, Any]] = []
    for vc, one in frame.groupby("vc"):
        rows += rebuilt(str(vc), one)
    quotas = {str(vc): int(one["capacity_gpus"].max()) for vc, one in frame.groupby("vc")}
    measured = float(frame["queued_gpus"].sum()) * MINUTE_S / 3600
    return pd.DataFrame(rows).sort_values("submit"), {vc: quota for vc, quota in quotas.items() if quota}, measured


def rebuilt(vc: str, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Jobs of one virtual cluster."""
    made = Rebuilt(vc)
    columns = (frame[name].to_numpy(float) for name in ("at", "running_gpus", "queued_gpus", "running_jobs"))
    before = (0.0, 0.0, 0.0)
    for at, running, queued, jobs in zip(*columns, strict=True):
        left = max(0.0, before[1] - queued)
        started = max(running - before[0], left, 0.0)
        made.end(started - (running - before[0]), at)
        made.start(started, round(jobs - before[2]), at)
        if queued > before[1]:
            made.queued.append([queued - before[1], at])
        before = (running, queued, jobs)
    end = float(frame["at"].max()) + MINUTE_S
    for one in made.running:
        made.job(one[0], one, end)
    return [row for row in made.rows if row["duration_s"] > 0]


def philly(start_day: float, days: float) -> tuple[pd.DataFrame, dict[str, int]]:
    """Jobs submitted from `start_day` on, and a quota per virtual cluster: its mean load over 0.75, in whole nodes."""
    frame = pd.read_csv(DATA / "philly_2017" / "jobs.csv.gz")
    begin, end = start_day * 86400, (start_day + days) * 86400
    frame = frame[(frame["submit_s"] < end) & (frame["submit_s"] + frame["duration_s"] > begin) & (frame["gpus"] > 0)]
    ends = np.minimum(frame["submit_s"] + frame["duration_s"], end)
    inside = (ends - np.maximum(frame["submit_s"], begin)) * frame["gpus"]
    load = inside.groupby(frame["vc"]).sum() / (end - begin)
    widest = frame.groupby("vc")["gpus"].max()
    quotas = {str(vc): max(NODE * int(np.ceil(mean / LOAD / NODE)), int(widest[vc])) for vc, mean in load.items()}
    left = np.minimum(frame["duration_s"], frame["submit_s"] + frame["duration_s"] - begin)
    jobs = pd.DataFrame(
        {"submit": np.maximum(frame["submit_s"], begin), "job": frame["job_id"].map("p{}".format), "gpus": frame["gpus"],
         "duration_s": np.maximum(left, 1.0), "queue": frame["vc"].astype(str), "user": frame["vc"].astype(str)}
    )  # fmt: skip
    return jobs.sort_values("submit"), quotas
