"""Services on one machine: which replica goes, crash loops, readiness, bounds, replacement; pure parts as tables."""

import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_stage import HTTP, SLEEP, LocalStage, python, service

from aiops.action import Cordon, Drain, Outcome
from aiops.backends.local import services
from aiops.backends.local.declare import ServiceSpec
from aiops.backends.local.state import Phase, ServiceRecord, State, Unit
from aiops.model import Gpu, Node, NodeState, SeriesKey
from aiops.testing.backend import admit, scale, settled

NODE = Node(name="n0", uid="u0", pool="p", state=NodeState.READY, cpu_cores=1e6, memory_bytes=1e15)
Make = Callable[..., LocalStage]


def spec(**changes: Any) -> ServiceSpec:
    return ServiceSpec(**service(max=8, **changes))


def unit(id: str, ready: bool, spawned_at: float, **changes: Any) -> Unit:
    row = {"owner": "service/web", "digest": spec().digest, "nodes": ("n0",), "phase": Phase.RUNNING}
    return Unit(**{**row, "id": id, "ready": ready, "spawned_at": spawned_at, **changes})


def state(units: list[Unit], replicas: int, **record: Any) -> State:
    service_record = ServiceRecord(uid="u", version=1, replicas=replicas, **record)
    return State(serial=100, services={"web": service_record}, units={one.id: one for one in units})


def going(found: State) -> set[str]:
    return {one.id for one in found.units.values() if one.phase is Phase.STOPPING}


def coming(found: State) -> int:
    return sum(one.phase is Phase.SPAWNING for one in found.units.values())


OLD, NEW, RAW = unit("old", True, 10), unit("new", True, 20), unit("raw", False, 5)
ELSEWHERE = unit("moved", True, 1, nodes=("n1",))
OUTDATED = unit("outdated", True, 1, digest="before")
DRAINING = replace(NODE, name="n1", uid="u1", state=NodeState.DRAINING)


@pytest.mark.parametrize(
    ("units", "replicas", "gone", "new", "why"),
    [
        ([OLD, NEW], 2, set(), 0, "as many as wanted: nothing to do"),
        ([OLD, NEW, RAW], 2, {"raw"}, 0, "one that does not serve goes before those that do"),
        ([OLD, NEW], 1, {"new"}, 0, "among equals the newest goes: its caches are coldest"),
        ([OLD, NEW], 0, {"old", "new"}, 0, "zero is a number too"),
        ([OLD], 3, set(), 2, "what is missing is started"),
        ([OLD, ELSEWHERE], 2, set(), 1, "on a draining node: replaced first, stopped later"),
        ([OLD, NEW, ELSEWHERE], 2, {"moved"}, 0, "its replacement serves: now it may go"),
        ([OLD, RAW, ELSEWHERE], 2, set(), 0, "its replacement does not serve yet"),
        ([OUTDATED], 1, set(), 1, "its declaration changed: replaced the same way"),
        ([OUTDATED, ELSEWHERE], 1, {"outdated"}, 1, "of two that must leave, as many stay as still serve"),
    ],
)
def test_who_goes_and_how_many_come(units: list[Unit], replicas: int, gone: set[str], new: int, why: str) -> None:
    found = services.plan(state(units, replicas), "web", spec(), (NODE, DRAINING), now=100.0)
    assert (coming(found), why) == (new, why)
    assert (going(found), why) == (gone, why)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 100)), max_size=8),
    st.integers(0, 8),
)
def test_planning_never_stops_what_is_needed_and_settles(rows: list[tuple[bool, bool, float]], replicas: int) -> None:
    units = [unit(f"u{i}", ready, at, nodes=("n1",) if away else ("n0",)) for i, (ready, away, at) in enumerate(rows)]
    found = services.plan(state(units, replicas), "web", spec(), (NODE, DRAINING), now=100.0)
    left = [one for one in found.units.values() if one.phase is not Phase.STOPPING]
    assert sum(one.ready for one in left) >= min(replicas, sum(one.ready for one in units))
    assert sum(one.nodes == ("n0",) for one in left) == replicas
    assert services.plan(found, "web", spec(), (NODE, DRAINING), now=100.0) == found


@pytest.mark.parametrize(("crashes", "wait"), [(0, 1.0), (1, 2.0), (2, 4.0), (5, 32.0), (20, 300.0), (1000, 300.0)])
def test_each_crash_doubles_the_wait_up_to_five_minutes(crashes: int, wait: float) -> None:
    seen = services.Seen(gone={"old": 3}, healthy={})
    found = services.settle(state([OLD], 1, crashes=crashes), "web", spec(), seen, now=50.0).services["web"]
    assert (found.crashes, found.not_before - 50.0, found.restarts) == (crashes + 1, wait, 1)


def test_a_replica_that_ran_well_starts_the_count_anew() -> None:
    well = replace(OLD, ready_at=0.0)
    found = services.settle(state([well], 1, crashes=9), "web", spec(), services.Seen(gone={"old": 1}, healthy={}), now=700.0)
    assert found.services["web"].crashes == 1


def test_a_wanted_stop_is_no_crash_and_a_hang_is_one() -> None:
    wanted = replace(OLD, phase=Phase.STOPPING)
    hung = replace(OLD, phase=Phase.STOPPING, why="unready for 60 s")
    ended = services.Seen(gone={"old": -15}, healthy={})
    assert services.settle(state([wanted], 1), "web", spec(), ended, 50.0).services["web"].crashes == 0
    assert services.settle(state([hung], 1), "web", spec(), ended, 50.0).services["web"].crashes == 1


def test_no_gpu_for_another_replica_is_said_and_nothing_is_stopped() -> None:
    one = replace(NODE, gpus=(Gpu(uuid="g0", index=0),))
    has = unit("old", True, 10, gpus=("g0",), digest=spec(gpus=1).digest)
    found = services.plan(state([has], 2), "web", spec(gpus=1), (one,), now=100.0)
    assert coming(found) == 0 and not going(found)
    assert found.services["web"].reason == "no capacity for another replica"


def test_start_seconds_are_measured_from_spawn_to_ready() -> None:
    seen = services.Seen(gone={}, healthy={"raw": True})
    found = services.settle(state([RAW], 1), "web", spec(health={"path": "/"}), seen, now=47.0)
    assert found.services["web"].start_s == (42.0,) and found.units["raw"].ready


# -- with real processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[LocalStage] = []

    def build(**section: Any) -> LocalStage:
        made.append(LocalStage(tmp_path, {"nodes": {"n0": {"gpus": 0}}, **section}))
        return made[-1]

    yield build
    for stage in made:
        stage.finish()


def test_a_crash_loop_is_visible_and_slows_down(make: Make) -> None:
    stage = make(services={"web": service(command=python("raise SystemExit(3)"))})
    for expected in range(1, 5):
        stage.until(lambda _, n=expected: stage.backend._supervisor.book.state.services["web"].restarts == n)
        for _ in range(3):
            stage.observe()  # within the backoff nothing is started
        assert len(list((stage.directory / "units").iterdir())) == expected
        stage.offset += 2.0**expected
    seen = stage.observe().services[0]
    assert seen.reason.startswith("crash loop: web.") and "exit 3" in seen.reason and seen.ready == 0


def test_a_killed_replica_comes_back(make: Make) -> None:
    stage = make(services={"web": service(replicas=2)})
    stage.until(settled)
    before = stage.living()
    os.killpg(next(iter(before.values())).pid, signal.SIGKILL)
    stage.until(lambda cluster: cluster.services[0].ready == 1)
    stage.offset = 5.0
    stage.until(settled)
    assert len(stage.living()) == 2 and len(set(stage.living()) - set(before)) == 1


def test_ready_means_that_the_health_check_was_answered(make: Make, tmp_path: Path) -> None:
    stage = make(services={"web": service(command=python(HTTP), health={"path": "/"}, metrics={"path": "/m"})})
    stage.until(settled)
    point = stage.backend.endpoints()[0]
    connection = http.client.HTTPConnection(point.address, timeout=2)
    connection.request("GET", "/")
    assert connection.getresponse().status == 200
    connection.close()
    listed = json.loads((stage.directory / "endpoints.json").read_text())["services"]["web"]
    assert listed["ready"] == 1 and listed["endpoints"][0]["metrics"] == f"http://{point.address}/m"


def test_a_replica_that_stops_answering_is_taken_out_and_then_replaced(make: Make) -> None:
    how = {"path": "/", "failures": 1, "timeout": "50ms", "restart_after": "60s"}
    stage = make(services={"web": service(command=python(HTTP), health=how)})
    stage.until(settled)
    name, who = next(iter(stage.living().items()))
    os.killpg(who.pid, signal.SIGSTOP)
    stage.until(lambda cluster: cluster.services[0].ready == 0)
    assert not stage.backend.endpoints()[0].ready and name in stage.living()
    stage.offset = 100.0
    stage.until(lambda cluster: settled(cluster) and name not in stage.living())


def test_a_health_command_with_the_port(make: Make, tmp_path: Path) -> None:
    stage = make(services={"web": service(health={"command": ["test", "-e", str(tmp_path / "ready")]})})
    for _ in range(3):
        assert stage.observe().services[0].ready == 0
    (tmp_path / "ready").touch()
    stage.until(settled)


def test_a_hanging_health_check_does_not_hold_up_the_cycle(make: Make) -> None:
    deaf = "import os, socket, time; s = socket.create_server(('127.0.0.1', int(os.environ['PORT']))); time.sleep(300)"
    stage = make(services={"web": service(command=python(deaf), replicas=4, health={"path": "/", "timeout": "5s"})})
    stage.until(lambda _: len(stage.living()) == 4)
    started = stage.now()
    stage.observe()
    assert stage.now() - started < 2.0  # four checks of 5 s each are in flight


def test_scaling_down_drains_before_it_stops(make: Make) -> None:
    stage = make(services={"web": service(replicas=2, drain=30)})
    seen = stage.until(settled).services[0]
    stage.backend.apply(admit(scale(seen, 1)), stage.now())
    stage.observe()
    assert len(stage.living()) == 2
    assert sorted(point.draining for point in stage.backend.endpoints()) == [False, True]
    stage.offset = 31
    stage.until(lambda cluster: settled(cluster) and len(stage.living()) == 1)


@pytest.mark.parametrize("replicas", [0, 5])
def test_bounds_are_refused_at_the_moment_of_effect(make: Make, replicas: int) -> None:
    stage = make(services={"web": service()})
    seen = stage.until(settled).services[0]
    receipt = stage.backend.apply(admit(scale(seen, replicas)), stage.now())
    assert receipt.outcome is Outcome.FAILED and "outside of 1..4" in receipt.detail and stage.effects() == ()


def test_a_changed_declaration_replaces_replicas_without_a_gap(make: Make) -> None:
    stage = make(services={"web": service()})
    stage.until(settled)
    before = set(stage.living())
    stage.restart(services={"web": service(env={"NEW": "1"})})
    stage.until(lambda cluster: cluster.services[0].ready >= 1 and not before & set(stage.living()))
    assert {stage.environment(name)["NEW"] for name in stage.living()} == {"1"}


def test_what_is_no_longer_declared_is_left_running(make: Make) -> None:
    stage = make(services={"web": service()})
    stage.until(settled)
    before = stage.living()
    stage.restart(services={})
    assert stage.observe().services == () and stage.living() == before


def test_a_cordoned_node_takes_no_new_replica_but_keeps_its_own(make: Make) -> None:
    stage = make(services={"web": service()})
    seen = stage.until(settled)
    stage.backend.apply(admit(Cordon(node="n0", uid=seen.nodes[0].uid, reason="x")), stage.now())
    stage.backend.apply(admit(scale(seen.services[0], 2), id="a2"), stage.now())
    again = stage.observe().services[0]
    assert (again.replicas, again.ready, again.reason) == (2, 1, "no capacity for another replica")


def test_draining_moves_replicas_to_the_other_node_first(make: Make) -> None:
    stage = make(services={"web": service(replicas=2)}, nodes={"n0": {"gpus": 0}, "n1": {"gpus": 0}})
    seen = stage.until(settled)
    ready = []

    def drained(cluster: Any) -> bool:
        ready.append(cluster.services[0].ready)
        return bool(cluster.nodes[0].state is NodeState.CORDONED)

    stage.backend.apply(admit(Drain(node="n0", uid=seen.nodes[0].uid, reason="repair")), stage.now())
    stage.until(drained)
    assert min(ready) >= 2


def test_the_load_series_is_the_declared_one(make: Make) -> None:
    stage = make(services={"a": service(command=SLEEP), "b": service(command=SLEEP, load='queue_depth{queue="b",shard="0"}')})
    seen = stage.observe()
    assert [row.load for row in seen.services] == [
        SeriesKey.of("service_requests_per_second", service="a"),
        SeriesKey.of("queue_depth", queue="b", shard="0"),
    ]


def test_the_nodes_of_replicas_are_told(make: Make) -> None:
    """What they have is not free: nobody is stopped for it in vain."""
    stage = make(services={"web": service(replicas=1)})
    seen = stage.until(settled)
    assert seen.services[0].nodes == tuple(node.name for node in seen.nodes)
