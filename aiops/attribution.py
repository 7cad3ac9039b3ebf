"""Whose GPU it was, and when: intervals of (GPU, job) from the labels that exporters put on GPU samples. Pure.

dcgm-exporter names the pod (kubelet's pod resources) or the Slurm job (its mapping files) on every sample. Such labels have
gaps and come late, so nothing is guessed from them: a GPU that was seen without a label is unattributed, a time without samples
is neither, and what is remembered are intervals, not the label of the moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from aiops.model import Series, SeriesKey

UNATTRIBUTED = ""


@dataclass(frozen=True, slots=True, order=True)
class Tenure:
    """GPU `uuid` served `job` (UNATTRIBUTED: nobody that any label names) at each sample in [since, until]; Unix seconds."""

    uuid: str
    since: float
    until: float
    job: str


def tenures(series: Iterable[Series], gap_s: float) -> tuple[Tenure, ...]:
    """Intervals of every GPU in `series`, ordered by GPU, start, end and job.

    Series without a `uuid` are left out. A pause of more than `gap_s` seconds between samples ends an interval. Several jobs on
    one GPU at one time each have their own. Where one exporter names a job and another does not, the name holds.
    """
    seen: dict[str, dict[float, set[str]]] = {}
    for one in series:
        uuid = one.key.label("uuid")
        if uuid:
            times = seen.setdefault(uuid, {})
            for at in one.times[np.isfinite(one.values)]:
                times.setdefault(float(at), set()).add(owner(one.key))
    return tuple(sorted(found for uuid, times in seen.items() for found in _of(uuid, times, gap_s)))


def owner(key: SeriesKey) -> str:
    """The job that a sample's labels name: a Slurm job's id, or `namespace/pod`; UNATTRIBUTED where they name none."""
    pod, namespace = key.label("pod"), key.label("namespace")
    return key.label("hpc_job") or (f"{namespace}/{pod}" if pod and namespace else UNATTRIBUTED)


def seconds(found: Iterable[Tenure]) -> Mapping[str, float]:
    """GPU-seconds per job, UNATTRIBUTED among them; a job that was seen once counts nothing yet."""
    out: dict[str, float] = {}
    for one in found:
        out[one.job] = out.get(one.job, 0.0) + one.until - one.since
    return out


def _of(uuid: str, times: Mapping[float, set[str]], gap_s: float) -> Iterable[Tenure]:
    """Samples of one GPU, in order; an owner's interval ends at its last sample before it is missing or a pause comes."""
    running: dict[str, tuple[float, float]] = {}
    before = float("-inf")
    for at in sorted(times):
        named = times[at] - {UNATTRIBUTED} or {UNATTRIBUTED}
        ended = set(running) if at - before > gap_s else set(running) - named
        yield from (Tenure(uuid, *running.pop(job), job) for job in sorted(ended))
        running.update({job: (running[job][0] if job in running else at, at) for job in named})
        before = at
    yield from (Tenure(uuid, since, until, job) for job, (since, until) in running.items())
