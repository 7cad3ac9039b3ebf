"""Planted bugs that records of decisions alone do not show: I6, I23 to I26, and the replay of I30, each caught by name.

The scenes run the real interface, delivery, store and policies; what passes the doors is written down, and `check` reads it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import test_planted_bugs
from lying_world import World, scale

from aiops.action import Mode
from aiops.api import idempotency
from aiops.decide.check import RULES, Trace, Violation, check
from aiops.decide.core import decide
from aiops.decide.limits import Limits
from aiops.decide.trace import Answer, Doors, Kept, Noticed
from aiops.model import Batch, Query, SeriesKey
from aiops.notify import deliver
from aiops.ports import Message
from aiops.store.memory import MemoryStore
from policies import outlook, prescale

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))
from api_house import Client, House

PAUSE, RESUME = b'{"kind": "pause", "target": "prescale"}', b'{"kind": "unpause", "target": "prescale"}'
Plant = Callable[[pytest.MonkeyPatch], None]


def at_doors(doors: Doors) -> tuple[Violation, ...]:
    return check(Trace(cycles=(), entries=(), effects=(), now=0.0, doors=doors), Limits())


# -- callers -----------------------------------------------------------------------------------------------------------


def callers() -> tuple[Violation, ...]:
    """Somebody repeats himself after a minute, uses a key for something else, and another one gives no key."""
    store: Any = MemoryStore()
    house, answers = House(store=store), []
    for key, body in (("k", PAUSE), ("k", PAUSE), ("k", RESUME), ("", PAUSE)):
        house.clock.advance(60.0)
        got = Client(house).post("/api/v1/orders", body, **({"Idempotency-Key": key} if key else {}))
        made = got.json()["order"]["id"] if got.status_code == 201 else ""
        answers.append(
            Answer(at=house.clock.now(), caller="me", key=key, asked=body.decode(), status=got.status_code, told=got.text,
                   order=made)
        )  # fmt: skip
    assert answers[0].status == 201
    orders = tuple(Kept(id=one.id, at=one.at) for one in store._orders.values())
    return at_doors(Doors(answers=tuple(answers), orders=orders))


def _any_body(store: Any, request: idempotency.Request, now: float) -> bytes | None:
    kept = [one for one in idempotency._kept(store, now) if one.id == request.order_id(now)]
    return kept[0].body.encode() if kept and request.key else None


# -- receivers ---------------------------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """Takes every other message, refuses one for good, and writes down what it got."""

    name: str = "hook"
    got: list[str] = field(default_factory=list)
    asked: int = 0

    def send(self, message: Message) -> None:
        self.asked += 1
        if message.body == b"poison":
            raise deliver.Permanent("no")
        if self.asked % 2:
            raise deliver.Temporary("busy")
        self.got.append(message.id)


def receivers() -> tuple[Violation, ...]:
    """Six notices of two groups, one of which nobody can take, to a receiver that is busy every other time."""
    store, receiver = MemoryStore(), Receiver()
    bodies = [b"poison" if i == 3 else b"x" for i in range(6)]
    store.enqueue([Message(id=f"m{i}", group=f"g{i % 2}", receiver="r", body=b, created_at=0.0) for i, b in enumerate(bodies)])
    now = 0.0
    for _ in range(20):
        now += 4000.0
        deliver.deliver_due(store, {"r": receiver}, now)
    waiting = {one.id for one in store._messages.values() if one.id not in store._delivered and not one.dead}
    notices = tuple(Noticed(id=f"m{i}", group=f"g{i % 2}", done=f"m{i}" not in waiting) for i in range(6))
    dead = tuple(one.id for one in store.dead_letters())
    return at_doors(Doors(notices=notices, received=tuple(receiver.got), dead=dead))


def _unsent(message: Message, notifier: Any, now: float) -> tuple[Message, str]:
    return replace(message, attempts=message.attempts + 1), ""


def _newest_first(self: MemoryStore, now: float, limit: int = 100) -> tuple[Message, ...]:
    left = [one for one in self._messages.values() if one.id not in self._delivered and not one.dead]
    return tuple(one for one in reversed(left) if one.next_at <= now)


def _renamed(message: Message, notifier: Any, now: float) -> tuple[Message, str]:
    notifier.got.append(f"{message.id}-{message.attempts}")
    return message, ""


# -- writers -----------------------------------------------------------------------------------------------------------


def writers() -> tuple[Violation, ...]:
    """Samples come twice, late, and with another value at a known time."""
    store, key = MemoryStore(), SeriesKey.of("m")
    acknowledged = []
    for at, value in ((10.0, 1.0), (20.0, 2.0), (20.0, 2.0), (20.0, 9.0), (15.0, 1.5)):
        if store.append(Batch.of(at, [(key, value)])):
            acknowledged.append(("m", at, value))
    found = store.read(Query(metric="m", window_s=100.0), 30.0)
    readable = tuple(("m", float(t), float(v)) for one in found for t, v in zip(one.times, one.values, strict=True))
    return at_doors(Doors(acknowledged=tuple(acknowledged), readable=readable))


class Forgetful(MemoryStore):
    """Says yes and keeps every second batch."""

    calls = 0

    def append(self, *batches: Batch) -> int:
        type(self).calls += 1
        return sum(len(one.keys) for one in batches) if self.calls % 2 else super().append(*batches)


class Overwriting(MemoryStore):
    """The last value at a time wins."""

    def append(self, *batches: Batch) -> int:
        for one in batches:
            self._points = {k: {t: v for t, v in p.items() if t != one.time} for k, p in self._points.items()}
        return super().append(*batches)


# -- poorer inputs and replays -----------------------------------------------------------------------------------------


def a_quiet_service(world: World) -> None:
    """A service at its right size, its load measured every ten seconds, under the real policy."""
    load = world.cluster.services["web"].load
    for ago in range(600, -1, -10):
        world.store.append(Batch.of(world.clock.now() - ago, [(load, 4.0)]))
    world.policies, world.modes = {"prescale": prescale.Prescale()}, {"prescale": Mode.ACT}
    world.cycle(after=1.0)


def poorer() -> tuple[Violation, ...]:
    world = World()
    a_quiet_service(world)
    trace = replace(world.trace(), again=lambda seen: decide(seen, world.policies))
    assert trace.cycles[-1][0].series
    return check(trace, Limits())


def _silence_is_zero(real: Any) -> Any:
    def now_and_peak(*asked: Any) -> tuple[float, ...]:
        return tuple(value or 0.0 for value in real(*asked))

    return now_and_peak


@dataclass
class Moody:
    """Wishes for something else every time that it is asked."""

    name: str = "x"
    every_s: float = 1.0
    remembers: bool = False
    asked: int = 0

    def needs(self, cluster: Any) -> tuple[()]:
        return ()

    def decide(self, snapshot: Any) -> list[Any]:
        self.asked += self.remembers
        return [scale("web", 5 + self.asked)(snapshot)]


def replayed() -> tuple[Violation, ...]:
    world = World()
    world.policies = {"x": Moody(remembers=REMEMBERS[0])}
    world.cycle()
    return check(replace(world.trace(), again=lambda seen: decide(seen, world.policies)), Limits())


REMEMBERS = (False,)


def put(where: object, name: str, value: Any) -> Plant:
    return lambda patch: patch.setattr(where, name, value)


BUGS: list[tuple[str, Plant, Callable[[], tuple[Violation, ...]], str]] = [
    ("what is late counts as zero", put(outlook, "now_and_peak", _silence_is_zero(outlook.now_and_peak)), poorer, "I6"),
    ("an order is answered and not kept", put(MemoryStore, "put_order", lambda self, order: None), callers, "I23"),
    ("keys are not looked up", put(idempotency, "earlier", lambda store, request, now: None), callers, "I24"),
    ("a key is good for any body", put(idempotency, "earlier", _any_body), callers, "I24"),
    ("settled, never sent", put(deliver, "_try", _unsent), receivers, "I25"),
    ("the newest notice first", put(MemoryStore, "due", _newest_first), receivers, "I25"),
    ("another id at each try", put(deliver, "_try", _renamed), receivers, "I25"),
    ("a sample is acknowledged and dropped", put(sys.modules[__name__], "MemoryStore", Forgetful), writers, "I26"),
    ("the last value wins", put(sys.modules[__name__], "MemoryStore", Overwriting), writers, "I26"),
    ("a policy remembers", put(sys.modules[__name__], "REMEMBERS", (True,)), replayed, "I30"),
]  # fmt: skip


@pytest.mark.parametrize(("bug", "plant", "scene", "rule"), BUGS, ids=[bug[0] for bug in BUGS])
def test_each_planted_bug_is_caught(
    bug: str, plant: Plant, scene: Callable[[], tuple[Violation, ...]], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scene() == (), "the scene itself must be safe"
    plant(monkeypatch)
    assert rule in {violation.rule for violation in scene()}


def test_all_thirty_are_checked() -> None:
    assert {rule for rule, _ in RULES} == {f"I{number}" for number in range(1, 31)}


def test_the_page_lists_every_planted_bug() -> None:
    page = (Path(__file__).parents[2] / "docs" / "planted-bugs.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if "| I" in line]
    assert [(row[0], row[2].split()[0]) for row in rows] == [
        (bug, rule) for bug, _, _, rule in (*test_planted_bugs.BUGS, *BUGS)
    ]
