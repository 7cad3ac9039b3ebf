"""What every `Ledger` and `Lease` must do; see `aiops.testing.store`."""

from __future__ import annotations

from dataclasses import replace

from aiops.action import (
    Deny,
    Effect,
    EntryState,
    Outcome,
    Receipt,
    Verdict,
)
from aiops.codec import encode
from aiops.errors import Fenced, Permanent
from aiops.model import (
    HoldState,
)
from aiops.ports import Store
from aiops.snapshot import Decided, Transition
from aiops.testing.examples import T0, admission, hold, refused, snapshot


class LedgerConformance:
    """The append-only record, its states and its fence."""

    def lead(self, store: Store, holder: str = "one", now: float = T0) -> int:
        """An epoch to record under."""
        epoch = store.acquire(holder, now, 1000.0)
        assert epoch is not None
        return epoch

    def test_a_cycle_comes_back_with_the_same_bytes(self, store: Store) -> None:
        seen, decided = (
            snapshot("c1", self.lead(store)),
            Decided(admissions=(admission("a1"),), notes=("web: within tolerance",)),
        )
        store.record(seen, decided)
        back, raw = store.cycle("c1")
        assert (encode(back), raw) == (encode(seen), encode(decided))
        assert store.cycles(T0, T0) == ("c1",)
        with refused(KeyError):
            store.cycle("c2")

    def test_a_permission_becomes_an_intent_and_a_refusal_does_not(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"), admission("a2", denied=Deny.COOLDOWN))))
        (entry,) = store.entries(0.0)
        assert (entry.admission, entry.state, entry.epoch) == (admission("a1"), EntryState.INTENT, epoch)
        assert (entry.expires_at, entry.attempts) == (T0 + 60.0, 0)
        assert [one.id for one in store.admissions(0.0, T0)] == ["a1", "a2"]
        assert store.admission("a2") == (admission("a2", denied=Deny.COOLDOWN), "c1")
        with refused(KeyError):
            store.admission("a3")

    def test_another_epoch_writes_nothing(self, store: Store) -> None:
        epoch = self.lead(store)
        with refused(Fenced):
            store.record(snapshot("c1", epoch + 1), Decided(admissions=(admission("a1"),), reservations=(hold("h"),)))
        assert (store.entries(0.0), store.cycles(0.0, T0), store.reservations()) == ((), (), ())

    def test_the_same_cycle_or_admission_cannot_be_recorded_twice(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"),)))
        for seen in (snapshot("c1", epoch), snapshot("c2", epoch)):
            with refused(Permanent):
                store.record(seen, Decided(admissions=(admission("a1"),)))
        assert store.cycles(0.0, T0) == ("c1",)
        assert len(store.entries(0.0)) == 1

    def test_an_entry_goes_from_intent_over_sent_to_its_end(self, store: Store) -> None:
        store.record(snapshot("c1", self.lead(store)), Decided(admissions=(admission("a1"),)))
        receipt = Receipt(id="a1", outcome=Outcome.UNKNOWN, detail="timed out")
        verdict = Verdict(id="a1", at=T0 + 20, effect=Effect.PRESENT)
        store.advance("a1", EntryState.SENT, T0 + 1)
        store.advance("a1", EntryState.SENT, T0 + 2, receipt)
        (entry,) = store.entries(0.0, only_open=True)
        assert (entry.state, entry.attempts, entry.receipt) == (EntryState.SENT, 1, receipt)
        store.advance("a1", EntryState.CONFIRMED, T0 + 20, verdict)
        assert store.entries(0.0, only_open=True) == ()
        (entry,) = store.entries(T0 + 19)
        assert (entry.state, entry.verdict, entry.changed_at) == (EntryState.CONFIRMED, verdict, T0 + 20)
        assert store.entries(T0 + 20) == ()

    def test_nothing_leaves_a_terminal_state_or_returns_to_intent(self, store: Store) -> None:
        terminal = [state for state in EntryState if state not in (EntryState.INTENT, EntryState.SENT)]
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=tuple(admission(state.value) for state in terminal)))
        for end in terminal:
            with refused(Permanent):
                store.advance(end.value, EntryState.INTENT, T0 + 1)
            store.advance(end.value, end, T0 + 1)
            for state in EntryState:
                with refused(Permanent):
                    store.advance(end.value, state, T0 + 2)
        with refused(KeyError):
            store.advance("unknown", EntryState.SENT, T0)

    def test_transitions_of_a_pass_are_applied_with_it_or_not_at_all(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"), admission("a2"))))
        done = Transition(id="a1", state=EntryState.CONFIRMED, verdict=Verdict(id="a1", at=T0 + 9, effect=Effect.PRESENT))
        with refused(KeyError):
            lost = Transition(id="nobody", state=EntryState.FAILED)
            store.record(snapshot("c2", epoch, T0 + 9), Decided(transitions=(done, lost)))
        assert len(store.entries(0.0, only_open=True)) == 2
        store.record(snapshot("c2", epoch, T0 + 9), Decided(transitions=(done,)))
        assert [one.admission.id for one in store.entries(0.0, only_open=True)] == ["a2"]

    def test_reservations_follow_each_pass(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(reservations=(hold("b"), hold("a"))))
        assert store.reservations() == (hold("a"), hold("b"))
        active = replace(hold("a"), state=HoldState.ACTIVE)
        store.record(snapshot("c2", epoch, T0 + 60), Decided(reservations=(active,)))
        assert store.reservations() == (active,)
        store.record(snapshot("c3", epoch, T0 + 61), Decided())
        assert store.reservations() == ()

    def test_a_chain_of_untouched_records_verifies(self, store: Store) -> None:
        epoch = self.lead(store)
        store.record(snapshot("c1", epoch), Decided(admissions=(admission("a1"),)))
        store.advance("a1", EntryState.SENT, T0 + 1)
        assert store.verify() == 2


class LeaseConformance(LedgerConformance):
    """Leadership, and what it fences."""

    def lease_expires(self, store: Store, now: float, ttl_s: float) -> float:
        """Let a lease of `ttl_s` taken at `now` lapse; the time to go on from."""
        return now + ttl_s

    def test_one_leads_until_its_lease_ends_and_the_epoch_grows(self, store: Store) -> None:
        assert store.epoch() == 0
        assert store.acquire("one", T0, 0.2) == 1
        assert store.acquire("two", T0, 0.2) is None
        assert store.acquire("one", T0, 0.2) == 1
        later = self.lease_expires(store, T0, 0.2)
        assert store.acquire("two", later, 100.0) == 2
        assert store.acquire("one", later, 100.0) is None
        assert store.epoch() == 2

    def test_a_lapsed_lease_comes_back_at_a_new_epoch_even_to_its_holder(self, store: Store) -> None:
        assert store.acquire("one", T0, 0.2) == 1
        assert store.acquire("one", self.lease_expires(store, T0, 0.2), 100.0) == 2

    def test_a_lease_given_up_is_free_at_once_and_only_its_holder_gives_it_up(self, store: Store) -> None:
        store.acquire("one", T0, 100.0)
        store.release("two")
        assert store.acquire("two", T0 + 1, 100.0) is None
        store.release("one")
        assert store.acquire("two", T0 + 1, 100.0) == 2

    def test_a_leader_that_lost_its_lease_neither_records_nor_sends(self, store: Store) -> None:
        old = self.lead(store)
        store.record(snapshot("c1", old), Decided(admissions=(admission("a1"),)))
        store.release("one")
        self.lead(store, "two")
        with refused(Fenced):
            store.record(snapshot("c2", old), Decided())
        with refused(Fenced):
            store.advance("a1", EntryState.SENT, T0 + 1)
        assert store.entries(0.0)[0].state == EntryState.INTENT
        store.advance("a1", EntryState.EXPIRED, T0 + 60)
        assert store.verify() >= 2
