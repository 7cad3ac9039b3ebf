"""Whatever is done, in whatever order: the SQL store answers as the plain dictionaries do."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aiops.action import Deny, EntryState, OrderKind
from aiops.codec import encode
from aiops.errors import AiopsError
from aiops.model import Batch, HoldState, Query
from aiops.ports import Store
from aiops.settings import Settings, StoreSettings
from aiops.snapshot import Decided, Transition
from aiops.store.memory import MemoryStore
from aiops.store.opening import open_store
from aiops.testing.examples import T0, admission, finding, forecast, gpu, hold, message, order, snapshot

KEEP = StoreSettings(samples=86400.0, records=86400.0)
TIMES = st.one_of(st.integers(0, 40).map(lambda i: T0 + 1800.0 * i), st.sampled_from([T0, T0 + 86400.0 * 3, float("nan")]))
VALUES = st.sampled_from([0.0, 0.1, 1.0, -3.25, 1e300, float("nan")])
SAMPLES = st.lists(st.tuples(st.integers(0, 3), VALUES), min_size=1, max_size=5)
IDS = st.integers(0, 5)


class BothStores(RuleBasedStateMachine):
    """Every step is done to both; what they answer, or refuse, must be equal."""

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.settings = Settings(data_dir=Path(self.directory.name), store=KEEP)
        self.sql: Store = open_store(None, self.settings)
        self.memory: Store = MemoryStore(KEEP)
        self.number = 0

    def both(self, act: Callable[[Store], object]) -> None:
        answers = [self.answer(act, store) for store in (self.sql, self.memory)]
        assert answers[0] == answers[1]

    def answer(self, act: Callable[[Store], object], store: Store) -> object:
        try:
            return encode(act(store))
        except (AiopsError, KeyError) as error:
            return type(error)

    @rule(time=TIMES, samples=SAMPLES)
    def append(self, time: float, samples: list[tuple[int, float]]) -> None:
        batch = Batch(time, tuple(gpu(i) for i, _ in samples), np.array([value for _, value in samples]))
        self.both(lambda store: store.append(batch))

    @rule(window_s=st.sampled_from([60.0, 7200.0, 1e6]), step_s=st.sampled_from([0.0, 3600.0]), now=TIMES)
    def read(self, window_s: float, step_s: float, now: float) -> None:
        query = Query(metric="gpu_power_watts", window_s=window_s, step_s=step_s)
        if now == now:
            self.both(lambda store: store.read(query, now))

    @rule()
    def reopen(self) -> None:
        self.sql.close()
        self.sql = open_store(None, self.settings)

    @rule(holder=st.sampled_from("ab"), later_s=st.sampled_from([0.0, 50.0, 200.0]))
    def lead(self, holder: str, later_s: float) -> None:
        self.number += 1
        self.both(lambda store: store.acquire(holder, T0 + self.number + later_s, 100.0))

    @rule(holder=st.sampled_from("ab"))
    def release(self, holder: str) -> None:
        self.both(lambda store: store.release(holder))

    @rule(
        ids=st.sets(IDS, max_size=3),
        denied=st.sampled_from([None, None, Deny.COOLDOWN]),
        stale=st.booleans(),
        moved=st.lists(st.tuples(IDS, st.sampled_from(list(EntryState))), max_size=2, unique_by=lambda pair: pair[0]),
        holds=st.sets(st.tuples(st.sampled_from("xy"), st.sampled_from(list(HoldState))), max_size=1),
    )
    def record(self, ids: set[int], denied: Deny | None, stale: bool, moved: list, holds: set) -> None:
        self.number += 1
        now = T0 + self.number
        seen = snapshot(f"c{self.number}", self.sql.epoch() - stale, now)
        decided = Decided(
            admissions=tuple(admission(f"a{i}", now, denied) for i in sorted(ids)),
            transitions=tuple(Transition(id=f"a{i}", state=state) for i, state in moved),
            reservations=tuple(hold(name, state=state) for name, state in holds),
        )
        self.both(lambda store: store.record(seen, decided))

    @rule(id=IDS, state=st.sampled_from(list(EntryState)))
    def advance(self, id: int, state: EntryState) -> None:
        self.number += 1
        self.both(lambda store: store.advance(f"a{id}", state, T0 + self.number))

    @rule(id=IDS, kind=st.sampled_from(list(OrderKind)), on=st.sampled_from(["", "x"]), later=st.sampled_from([None, 10.0]))
    def order(self, id: int, kind: OrderKind, on: str, later: float | None) -> None:
        self.both(lambda store: store.put_order(order(str(id), kind, on, later and T0 + later)))

    @rule(ids=st.lists(IDS, max_size=3), next_at=st.sampled_from([0.0, T0 + 60]))
    def enqueue(self, ids: list[int], next_at: float) -> None:
        self.both(lambda store: store.enqueue([message(str(i), f"g{i % 2}", next_at=next_at) for i in ids]))

    @rule(id=IDS, delivered=st.booleans(), dead=st.booleans())
    def settle(self, id: int, delivered: bool, dead: bool) -> None:
        tried = replace(message(str(id), f"g{id % 2}"), attempts=3, dead=dead and not delivered, next_at=T0 + 30, error="x")
        self.both(lambda store: store.settle(tried, delivered))

    @rule(made=st.lists(st.tuples(st.sampled_from("pq"), st.integers(0, 5)), max_size=3))
    def forecast(self, made: list[tuple[str, int]]) -> None:
        self.both(lambda store: store.put_forecasts([forecast(name, T0 + at, float(at)) for name, at in made]))

    @rule(ids=st.sets(st.sampled_from("pq"), max_size=2), at=st.integers(0, 5))
    def diagnose(self, ids: set[str], at: int) -> None:
        self.both(lambda store: store.put_findings(T0 + at, [finding(id, T0 + at) for id in sorted(ids)]))

    @rule(days=st.sampled_from([0.5, 1.0]))
    def prune(self, days: float) -> None:
        for store in (self.sql, self.memory):  # the number of rows is each store's own
            store.prune(T0 + 86400.0 * days)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "sql"):
            return
        for look in (
            lambda store: store.keys(),
            lambda store: [store.entries(T0 - 1), store.entries(0.0, only_open=True), store.reservations()],
            lambda store: [store.orders(T0), store.orders(T0 + 20)],
            lambda store: [[m.id, m.attempts] for m in (*store.due(T0), *store.due(T0 + 99), *store.dead_letters())],
            lambda store: [store.forecasts(), store.forecast_history("p", T0, T0 + 3)],
            lambda store: [store.findings(), store.finding_history(T0, T0 + 4)],
            lambda store: store.epoch(),
        ):
            self.both(look)
        self.sql.verify()

    def teardown(self) -> None:
        if hasattr(self, "sql"):
            self.sql.close()
            self.directory.cleanup()


BothStores.TestCase.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
TestBothStores = BothStores.TestCase
