"""What the campaigns put into the daemon, through the same doors as anybody's plug-ins: a policy that never rests, and the
local backend with its failpoints armed. `installed` makes them entry points of a throw-away distribution.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import aiops.daemon
import aiops.leadership
from aiops.action import Action, Cordon, Decision, LimitBandwidth, ReserveBandwidth, ScaleService, TuneJob, Uncordon
from aiops.backends.journal import Journal
from aiops.backends.local import LocalBackend
from aiops.backends.local.declare import read
from aiops.model import Cluster, JobState, NodeState
from aiops.snapshot import Need, Snapshot
from aiops.store.sql import SqlStore

ENTRY_POINTS = """[aiops.policies]
churn = churn:Churn
[aiops.backends]
armed = churn:Armed
"""
DIE_AT = "CAMPAIGN_DIE_AT"  # `point:nth`; set, if only to nothing, in every process of a campaign
STORE_POINTS = ("before_record", "after_record", "before_advance", "after_advance")
TTL_S = 0.6


def die_at(point: str, seen: dict[str, int] = {}) -> None:  # noqa: B006 - one count per process is what is meant
    """End this process by kill -9 when `point` is reached for the armed time."""
    armed, _, nth = os.environ.get(DIE_AT, "").partition(":")
    seen[point] = seen.get(point, 0) + 1
    if point == armed and seen[point] >= int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def arm() -> None:
    """Shorten this process's lease, and give its store failpoints before and after what makes things durable."""
    aiops.leadership.TTL_S, aiops.leadership.MARGIN_S, aiops.daemon.RENEW_S = TTL_S, 0.2, 0.1  # type: ignore[misc]
    for name in ("record", "advance"):
        setattr(SqlStore, name, dying(getattr(SqlStore, name), name))


def dying(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The store's method with a failpoint before and after it."""

    def wrapped(self: SqlStore, *args: Any) -> Any:
        die_at(f"before_{name}")
        answer = method(self, *args)
        die_at(f"after_{name}")
        return answer

    return wrapped


class Armed(LocalBackend):
    """The local backend, which dies where it is told to; its journal is short, and kept whole beside for the judgement."""

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> Self:
        if DIE_AT in os.environ:
            arm()
        settings = read(section, where)
        backend = cls(settings, die_at)
        path, kept = settings.state_dir / "effects.jsonl", settings.state_dir / "kept"

        def failpoint(point: str) -> None:
            if point == "before_compact":
                kept.mkdir(exist_ok=True)
                shutil.copy(path, kept / f"{time.time_ns()}.jsonl")
            die_at(point)

        backend._journal = Journal(path, failpoint, kept=100)
        return backend


class Churn:
    """Wishes for another change of every kind of target in every cycle."""

    name: ClassVar[str] = "churn"
    every_s: ClassVar[float] = 0.01

    @classmethod
    def from_settings(cls, section: Mapping[str, Any], where: str) -> "Churn":
        return cls()

    def needs(self, cluster: Cluster) -> Sequence[Need]:
        return ()

    def decide(self, snapshot: Snapshot) -> Iterable[Decision | str]:
        return [Decision(policy=self.name, action=one, reason="churn", within_s=5.0) for one in wishes(snapshot.cluster)]


def wishes(cluster: Cluster) -> Iterator[Action]:
    for service in cluster.services:
        more = service.replicas % service.max_replicas + 1
        yield ScaleService(service=service.name, uid=service.uid, version=service.version, replicas=more, was=service.replicas)
    for node in cluster.nodes[1:]:
        if node.state is NodeState.READY:
            yield Cordon(node=node.name, uid=node.uid, reason="churn")
        else:
            yield Uncordon(node=node.name, uid=node.uid)
    for job in cluster.jobs:
        for knob in job.knobs if job.state is JobState.RUNNING else ():
            value = knob.least if knob.value == knob.most else knob.value + 1
            yield TuneJob(job=job.id, run_id=job.run_id, knob=knob.name, value=value, was=knob.value)
    for link in (link for link in cluster.links if link.name == "disk"):
        has = next((share for share in link.shares if share.owner == "job/train"), None)
        cap = has.cap_bytes_per_s if has else None
        yield LimitBandwidth(link="disk", owner="job/train", bytes_per_s=None if cap else 1e6, was=cap)
        promised = has.guarantee_bytes_per_s if has else None
        yield ReserveBandwidth(link="disk", owner="job/other", bytes_per_s=2e6 if promised == 1e6 else 1e6)


def plugin_paths(place: Path) -> list[str]:
    """Where a process finds the plug-ins that `installed` put at `place`."""
    return [str(place), str(Path(__file__).parent)]


@contextmanager
def installed(place: Path) -> Iterator[None]:
    """The plug-ins above as entry points, while the block lasts."""
    distribution = place / "churn-1.0.dist-info"
    distribution.mkdir(parents=True, exist_ok=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: churn\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text(ENTRY_POINTS)
    paths = plugin_paths(place)
    sys.path[:0] = paths
    try:
        yield
    finally:
        for path in paths:
            sys.path.remove(path)
