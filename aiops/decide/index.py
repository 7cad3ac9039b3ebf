"""What the gates of one cycle look up in its snapshot, sorted once: a day's history and a large cluster are walked once for
all decisions, not once for each.

Knows the snapshot and what an action takes away; not what is asked, nor what is allowed. Everything is computed when it is
first asked for, and lives as long as the pass that asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from aiops.action import Entry, EntryState, Outcome, ScalePool, destructive, target
from aiops.decide.blast import Blast, blast
from aiops.model import Job, JobState, Node, NodeState
from aiops.snapshot import Snapshot

OPEN = (EntryState.INTENT, EntryState.SENT)
OVER = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)
"""States in which a job is on no node, whatever nodes it names; of one that waits, a part may be placed already."""
PLACELESS = (JobState.QUEUED, JobState.HELD, JobState.DONE, JobState.FAILED, JobState.CANCELLED)
"""States in which a job need not be on any node."""


def touched(entry: Entry) -> bool:
    """False where the ledger proves that an entry had no effect: it expired unsent, or the cluster refused it."""
    refused = entry.receipt is not None and entry.receipt.outcome in (Outcome.STALE, Outcome.UNSUPPORTED)
    return not (entry.state is EntryState.EXPIRED or (entry.state is EntryState.FAILED and refused))


@dataclass(frozen=True)  # no slots: cached_property needs a place to keep
class Index:
    """Lookups in one snapshot. Entries keep the order of the history."""

    snapshot: Snapshot

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Recorded entries that may have touched something."""
        return tuple(entry for entry in self.snapshot.history if touched(entry))

    @cached_property
    def by_target(self) -> Mapping[str, list[Entry]]:
        """The same by the object that they changed."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            found[target(entry.admission.decision.action)].append(entry)
        return dict(found)

    @cached_property
    def in_flight(self) -> tuple[Entry, ...]:
        """Those that are not judged yet."""
        return tuple(entry for entry in self.entries if entry.state in OPEN)

    @cached_property
    def damage(self) -> tuple[tuple[Entry, Blast], ...]:
        """Those that took something away, with what that is as the cluster is now."""
        hurt = (entry for entry in self.entries if destructive(entry.admission.decision.action))
        return tuple((entry, blast(entry.admission.decision.action, self.snapshot.cluster)) for entry in hurt)

    @cached_property
    def scaled_away(self) -> tuple[tuple[Entry, ScalePool], ...]:
        """Confirmed changes of pools by this daemon that named nodes to go."""
        scaled = ((e, e.admission.decision.action) for e in self.entries if e.state is EntryState.CONFIRMED)
        return tuple((entry, action) for entry, action in scaled if isinstance(action, ScalePool) and action.remove)

    @cached_property
    def jobs(self) -> Mapping[str, Job]:
        """The first job of each id."""
        return {job.id: job for job in reversed(self.snapshot.cluster.jobs)}

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """The first node of each name."""
        return {node.name: node for node in reversed(self.snapshot.cluster.nodes)}

    @cached_property
    def busy(self) -> frozenset[str]:
        """Names of nodes that a job or a replica is on."""
        cluster = self.snapshot.cluster
        on = {name for job in cluster.jobs if job.state not in OVER for name in job.nodes}
        return frozenset(on | {name for service in cluster.services for name in service.nodes})

    @cached_property
    def unseen(self) -> tuple[str, ...]:
        """Ids of jobs that have their place and do not tell where; one that is stopping may have left it."""
        gone = (*PLACELESS, JobState.STOPPING)
        return tuple(sorted(job.id for job in self.snapshot.cluster.jobs if job.state not in gone and not job.nodes))

    @cached_property
    def present(self) -> Mapping[str, int]:
        """Nodes per pool."""
        return Counter(node.pool for node in self.snapshot.cluster.nodes)

    @cached_property
    def well(self) -> Mapping[str, int]:
        """Nodes per pool that are not down."""
        return Counter(node.pool for node in self.snapshot.cluster.nodes if node.state is not NodeState.DOWN)

    @cached_property
    def protected(self) -> frozenset[str]:
        """Names of everything that the cluster itself calls protected."""
        cluster = self.snapshot.cluster
        names = {job.id for job in cluster.jobs if job.protected}  # its name may be that of a hundred others
        names |= {node.name for node in cluster.nodes if node.protected}
        return frozenset(names | {service.name for service in cluster.services if service.protected})
