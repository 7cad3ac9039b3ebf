"""What is wanted and what was started: the one durable file of the local backend.

Every action is one change of this state, written whole and fsynced before anything else happens; supervision brings the
processes towards it and may be repeated at will. So "did it happen?" always has an answer on disk.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from aiops import codec
from aiops.backends import disk
from aiops.backends.local.process import Identity
from aiops.errors import Unreadable
from aiops.model import Checkpoint, JobState, NodeState


class Phase(StrEnum):
    """Life of a unit. SPAWNING: a launcher was or will be asked; whether it did is in its identity file."""

    SPAWNING = "spawning"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One supervised process group: a replica, or a run of a job. `id` is never used twice."""

    id: str
    owner: str
    digest: str
    nodes: tuple[str, ...]
    gpus: tuple[str, ...] = ()
    cpu_cores: float = 0.0
    memory_bytes: float = 0.0
    port: int = 0
    phase: Phase = Phase.SPAWNING
    identity: Identity | None = None
    spawned_at: float = 0.0
    ready: bool = False
    ready_at: float | None = None
    unready_since: float | None = None
    term_at: float | None = None
    kill_at: float | None = None
    why: str = ""
    frees_for: str = ""  # the hold that what it frees is bound to


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """Wanted replicas of a service. `by` is the admission that set them; `crashes` counts since it last ran well."""

    uid: str
    version: int
    replicas: int
    by: str = ""
    start_s: tuple[float, ...] = ()
    crashes: int = 0
    restarts: int = 0
    not_before: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """A submitted job. `then` is its state once the unit in STOPPING is gone; `run` counts its runs."""

    id: str
    uid: str
    digest: str
    state: JobState
    submitted_at: float
    run: int = 0
    unit: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    then: JobState | None = None
    exclude_nodes: tuple[str, ...] = ()
    to_nodes: tuple[str, ...] = ()
    to_gpus: tuple[str, ...] = ()
    evictions: tuple[float, ...] = ()
    checkpoint: Checkpoint | None = None
    requested: str = ""
    requested_at: float | None = None
    knobs: Mapping[str, float] = field(default_factory=dict)
    lender: str = ""
    by: str = ""
    reason: str = ""

    @property
    def run_id(self) -> str:
        """Identity of the present (or coming) run."""
        return f"{self.id}-{self.uid}-{self.run}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """What operators or policies want of a node."""

    state: NodeState = NodeState.READY
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldRecord:
    """Capacity bound to an owner; the ledger proper is in `decide/reserve.py`, this is what the cluster was told.

    While victims drain for it, `expires_at` moves on, never past `hard_cap_at`.
    """

    owner: str
    fence: int
    nodes: tuple[str, ...]
    gpus: int
    expires_at: float
    confirmed: bool = False
    by: str = ""
    since: float = 0.0
    hard_cap_at: float = 0.0
    cpu_cores: float = 0.0
    bandwidth_bytes_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRecord:
    """One owner's guarantee or cap on a link, in bytes per second."""

    link: str
    owner: str
    bytes_per_s: float
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far the wall clock was ahead of the steady one on this boot; see `steady.py`."""

    boot_id: str
    ahead_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All of it. `serial` numbers units for ever; `fences` remembers the highest fence per hold name."""

    serial: int = 0
    services: Mapping[str, ServiceRecord] = field(default_factory=dict)
    jobs: Mapping[str, JobRecord] = field(default_factory=dict)
    units: Mapping[str, Unit] = field(default_factory=dict)
    nodes: Mapping[str, NodeRecord] = field(default_factory=dict)
    holds: Mapping[str, HoldRecord] = field(default_factory=dict)
    fences: Mapping[str, int] = field(default_factory=dict)
    caps: Mapping[str, ShareRecord] = field(default_factory=dict)
    guarantees: Mapping[str, ShareRecord] = field(default_factory=dict)
    mark: Mark | None = None

    def with_unit(self, unit: Unit) -> State:
        """With `unit` added or replaced."""
        return replace(self, units={**self.units, unit.id: unit})

    def without_unit(self, unit: str) -> State:
        """Without a unit that is gone."""
        return replace(self, units={key: value for key, value in self.units.items() if key != unit})

    def with_service(self, name: str, record: ServiceRecord) -> State:
        """With a service's record added or replaced."""
        return replace(self, services={**self.services, name: record})

    def with_job(self, record: JobRecord) -> State:
        """With a job's record added or replaced."""
        return replace(self, jobs={**self.jobs, record.id: record})

    def with_node(self, name: str, record: NodeRecord) -> State:
        """With a node's record added or replaced."""
        return replace(self, nodes={**self.nodes, name: record})

    def owned(self, owner: str) -> Iterator[Unit]:
        """Units of `service/NAME` or `job/NAME`, oldest first."""
        return (unit for unit in self.units.values() if unit.owner == owner)


class Book:
    """The state on disk, owned by one process at a time. Not thread-safe: its owner holds a lock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / "state.json"
        self._lock: int | None = None
        self._saved = b""
        self.state = State()

    def open(self) -> None:
        """Take the directory and read its state. Raises Unreadable where another process has it, or the file is damaged."""
        if self._lock is not None:
            return
        try:
            (self.directory / "units").mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take(lock)
        except OSError as error:
            raise Unreadable(f"{self.directory}: {error.strerror}") from None

    def _take(self, lock: int) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Unreadable(f"{self.directory}: another process supervises it") from None
        if self._path.exists():
            try:
                self._saved = self._path.read_bytes()
                self.state = codec.decode(State, self._saved)
            except (ValueError, KeyError, TypeError) as error:
                os.close(lock)
                raise Unreadable(f"{self._path}: not a state of this version ({type(error).__name__})") from None
        self._lock = lock

    def put(self, state: State) -> None:
        """Make `state` the durable one; OSError leaves the earlier one in force, in memory and on disk."""
        data = codec.encode(state)
        if data != self._saved:
            disk.write(self._path, state)
            self._saved = data
        self.state = state

    def close(self) -> None:
        """Let go of the directory; processes go on."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
