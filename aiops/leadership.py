"""Who may send effects: a lease in the store, guarded by this daemon's own monotonic clock.

The store's epoch fences late writers. The local guard stops a holder that was suspended or cut off *before* its lease
ends, so that old and new leader never overlap.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from aiops.clock import Clock
from aiops.errors import Temporary
from aiops.ports import Lease

TTL_S = 13.0  # a standby takes over within TTL_S + one renewal, its first cycle follows at once: under 20 s
RENEW_S = 3.0
MARGIN_S = 5.0  # stop sending this long before the lease can be taken: longer than one backend call may take
REST_S = 2 * RENEW_S  # how long one that gave way asks for nothing: a standby renews once within it, with room to spare


class Leadership:
    """Renews the lease and answers whether effects may still be sent."""

    def __init__(self, lease: Lease, clock: Clock, holder: str) -> None:
        self._lease, self._clock, self.holder = lease, clock, holder
        self.epoch: int | None = None
        self.trouble = ""
        self._renewed = float("-inf")
        self._rests_until = float("-inf")
        self._turn = threading.Lock()  # the lease is renewed in one thread, given up in another

    def renew(self) -> int | None:
        """Acquire or renew; the epoch while leading, None while another leads or the store cannot tell (`trouble` says why)."""
        before = self._clock.elapsed()  # before the call: the lease's life counts from when it was asked for
        if before < self._rests_until:
            return None
        try:
            epoch = self._lease.acquire(self.holder, self._clock.now(), TTL_S)
        except Temporary as error:
            self.trouble = str(error)
            return self.epoch if self.leads() else None
        self.trouble = ""
        with self._turn:
            gave_way = before < self._rests_until  # while the store answered: what it answered counts no more
            self.epoch = None if gave_way else epoch
            if self.epoch is not None:
                self._renewed = before
        if gave_way and epoch is not None:
            self._let_go()
        return self.epoch

    def leads(self) -> bool:
        """True while the lease surely still runs."""
        return self.epoch is not None and self._clock.elapsed() - self._renewed < TTL_S - MARGIN_S

    def give_way(self) -> None:
        """Let a standby lead, for this daemon cannot do its work; where there is none, take it up again after a rest."""
        with self._turn:
            self._rests_until = self._clock.elapsed() + REST_S
        self.release()

    def release(self) -> None:
        """Let a standby take over at once; where the store does not answer, the lease lapses by itself."""
        with self._turn:
            led, self.epoch = self.epoch is not None, None
        if led:
            self._let_go()

    def _let_go(self) -> None:
        with suppress(Temporary):
            self._lease.release(self.holder)
