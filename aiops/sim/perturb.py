"""What goes wrong between a daemon and its cluster: stale views, lost and late calls, lies, missed samples, crashes anywhere.

Wraps any simulated backend and says for each call, by chance but equally for equal seeds, how it goes wrong. What was really
done is in the wrapped backend's own log, which the invariants are checked on. The three that find most bugs in controllers are
stale states, crashes in the middle and missed events (Sun et al., "Automatic reliability testing for cluster management
controllers", OSDI 2022); lying backends and late effects are this project's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar, Protocol
from zlib import crc32

import numpy as np
from pydantic import Field

from aiops.action import Admission, Effect, Outcome, Receipt
from aiops.errors import Unreadable
from aiops.model import Batch, Cluster
from aiops.settings import Seconds, Section

Chance = Annotated[float, Field(ge=0, le=1)]


class Crash(BaseException):
    """The daemon ends at this very point; what it remembered is lost, what it recorded is not."""


class Perturbations(Section):
    """Chance of each kind per call (of `crash` per step of a cycle); `late_by` is how late a late effect is."""

    stale_view: Chance = 0.0
    unreadable_view: Chance = 0.0
    lost_request: Chance = 0.0
    lost_reply: Chance = 0.0
    late_effect: Chance = 0.0
    does_nothing: Chance = 0.0
    blind_probe: Chance = 0.0
    missed_sample: Chance = 0.0
    late_sample: Chance = 0.0
    crash: Chance = 0.0
    late_by: Seconds = 45.0

    @property
    def any(self) -> bool:
        """Whether anything may go wrong."""
        return any(getattr(self, name) for name in type(self).model_fields if name != "late_by")


class Simulated(Protocol):
    """A simulated cluster: a Backend, and what its scrape shows."""

    name: ClassVar[str]
    supports: frozenset[str]

    def observe(self, now: float) -> Cluster: ...  # noqa: D102  as in `ports.Backend`
    def apply(self, admission: Admission, now: float) -> Receipt: ...  # noqa: D102
    def probe(self, admission: Admission, now: float) -> Effect: ...  # noqa: D102
    def collect(self, now: float) -> Batch: ...  # noqa: D102


class Perturbed:
    """A backend between which and its daemon things go wrong; `counts` tells what did, and how often."""

    name: ClassVar[str] = "simulated"

    def __init__(self, inner: Simulated, wrong: Perturbations, seed: int) -> None:
        self.inner, self.wrong, self.supports = inner, wrong, inner.supports
        self.counts: Counter[str] = Counter()
        self._draws = np.random.default_rng([seed, crc32(b"perturb")])
        self._view: Cluster | None = None
        self._late: list[tuple[float, Admission]] = []
        self._held: list[Batch] = []

    def collect(self, now: float) -> tuple[Batch, ...]:
        """What arrives of the samples now: nothing, what was held back before, or all of it; late ones come out of order."""
        self._arrive(now)
        batch = self.inner.collect(now)
        if self._happens("missed_sample"):
            return ()
        if self._happens("late_sample"):
            self._held.append(batch)
            return ()
        held, self._held = self._held, []
        return (batch, *held)

    def observe(self, now: float) -> Cluster:
        """See `Backend.observe`; a stale view is an old picture that says that it is new."""
        self._arrive(now)
        self.step()
        if self._happens("unreadable_view"):
            raise Unreadable("half a picture")
        if self._view is not None and self._happens("stale_view"):
            return replace(self._view, at=now)
        self._view = self.inner.observe(now)
        return self._view

    def apply(self, admission: Admission, now: float) -> Receipt:
        """See `Backend.apply`; a promise may be a lie, silence may hide an effect that is there, or that comes later."""
        self.step()
        id = admission.id
        if self._happens("lost_request"):
            return Receipt(id=id, outcome=Outcome.UNKNOWN, detail="no answer")
        if self._happens("does_nothing"):
            return Receipt(id=id, outcome=Outcome.DONE)
        if self._happens("late_effect"):
            self._late.append((now + self.wrong.late_by, admission))
            return Receipt(id=id, outcome=Outcome.UNKNOWN, detail="no answer")
        receipt = self.inner.apply(admission, now)
        self.step()
        lost = self._happens("lost_reply")
        return Receipt(id=id, outcome=Outcome.UNKNOWN, detail="no answer") if lost else receipt

    def probe(self, admission: Admission, now: float) -> Effect:
        """See `Backend.probe`."""
        return Effect.UNREADABLE if self._happens("blind_probe") else self.inner.probe(admission, now)

    def close(self) -> None:
        """See `Backend.close`: there is nothing to let go."""

    def step(self) -> None:
        """A point at which the daemon may end. Raises Crash."""
        if self._happens("crash"):
            raise Crash

    def guard(self, answer: Callable[[], bool]) -> Callable[[], bool]:
        """`answer`, asked between recording and acting, as one more point at which the daemon may end."""

        def asked() -> bool:
            self.step()
            return answer()

        return asked

    def _arrive(self, now: float) -> None:
        due = [admission for at, admission in self._late if at <= now]
        self._late = [(at, admission) for at, admission in self._late if at > now]
        for admission in due:
            self.inner.apply(admission, now)

    def _happens(self, kind: str) -> bool:
        chance: float = getattr(self.wrong, kind)
        hit = chance > 0 and float(self._draws.random()) < chance
        self.counts[kind] += hit
        return hit
