"""Cores and memory, which a job needs beside its GPUs: what of them is left on each node. Pure arithmetic.

Free GPUs are no room where other work holds all the cores: who looks at GPUs only, waits there for ever, or stops somebody in
vain. Missing is not zero: a node that does not tell how much it has refuses nobody, and where more is promised than there is,
the scheduler evidently does not count it. What leaves is counted as gone: nobody is stopped for what comes back by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from aiops.model import Cluster, Job, JobState, NodeState

STAYING = (JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED)
Left = dict[str, tuple[float, float]]
"""Cores and bytes of memory per node that takes work; infinite where they are not counted."""


def unused(cluster: Cluster) -> Left:
    """What running work leaves of each node that takes work."""
    nodes = [node for node in cluster.nodes if node.state is NodeState.READY]
    found = {node.name: (node.cpu_cores or math.inf, node.memory_bytes or math.inf) for node in nodes}
    for job in cluster.jobs:
        if job.state in STAYING:
            add(found, job, -1.0)
    return {name: (_counted(cores, 1e-6), _counted(memory, 1.0)) for name, (cores, memory) in found.items()}


def _counted(amount: float, slack: float) -> float:
    return amount if amount >= -slack else math.inf


def add(found: Left, job: Job, sign: float, nodes: tuple[str, ...] | None = None) -> None:
    """Count the job's even part on each of its nodes, or of these, as free (1) or taken (-1)."""
    names = job.nodes if nodes is None else nodes
    for name in names:
        if name in found:
            cores, memory = found[name]
            found[name] = cores + sign * job.cpu_cores / len(names), memory + sign * job.memory_bytes / len(names)


def carries(found: Mapping[str, tuple[float, float]], name: str, job: Job, part: float = 1.0) -> bool:
    """Whether a node has the cores and memory for this part of a job; one that is not listed refuses nobody."""
    cores, memory = found.get(name, (math.inf, math.inf))
    return job.cpu_cores * part <= cores + 1e-6 and job.memory_bytes * part <= memory + 1.0
