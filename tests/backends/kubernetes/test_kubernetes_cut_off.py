"""A daemon killed in the middle of an action, before and after every one of its writes: the next one ends what it began."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cluster_stage import JOBS, ClusterStage, in_process
from kubernetes_stage import budget
from test_kubernetes_moves import gathered, move

from aiops import codec
from aiops.action import Action, Effect, HoldCapacity, Outcome, Preempt, ReleaseHold
from aiops.backends.kubernetes.connection import Object
from aiops.model import Job, JobState
from aiops.testing.backend import ReplyLost, admit

_LOOKS = 400


def stop(found: Job) -> Preempt:
    return Preempt(
        job=found.id, run_id=found.run_id, on_nodes=found.nodes, checkpoint="c1", gpus=found.gpus, lost_gpu_s=0.0
    )  # fmt: skip


class Killed:
    """Ends the daemon at its nth write, either just before or just after it took effect."""

    def __init__(self, cluster: ClusterStage, at: int, after: bool) -> None:
        self.connection, self.left, self.after = cluster.backend._connected(), at, after
        self.patch, self.create = self.connection.patch, self.connection.create
        self.connection.patch = lambda *a, **k: self._write(self.patch, *a, **k)  # type: ignore[method-assign]
        self.connection.create = lambda *a, **k: self._write(self.create, *a, **k)  # type: ignore[method-assign]

    def _write(self, verb: Any, path: str, body: Object, dry_run: bool = False) -> Object:
        if dry_run:
            return verb(path, body, dry_run)  # type: ignore[no-any-return]
        self.left -= 1
        if self.left < 0 or (self.left == 0 and not self.after):
            raise ReplyLost
        found = verb(path, body, dry_run)
        if self.left == 0:
            raise ReplyLost
        return found  # type: ignore[no-any-return]


def cut_off(cluster: ClusterStage, action: Action, at: int, after: bool) -> bool:
    """Whether the daemon died of its nth write, and another one was started."""
    Killed(cluster, at, after)
    try:
        cluster.backend.apply(admit(action), cluster.now())
    except ReplyLost:
        cluster.restart()
        cluster.backend.observe(cluster.now())
        return True
    return False


def finished(cluster: ClusterStage) -> list[str]:
    """What the next daemon says it ended, once there is nothing left to end."""
    told: list[str] = []
    for _ in range(_LOOKS):
        told += cluster.backend.finish(cluster.now())
        notes = cluster.rest.get(f"{JOBS}/train")["metadata"].get("annotations", {})
        if "aiops.io/moving" not in notes and "aiops.io/stopping" not in notes:
            return told
        time.sleep(0.02)
    raise AssertionError(f"still not ended: {notes}")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_a_move_killed_at_any_write_ends_on_the_new_nodes_or_never_began(cluster: ClusterStage, at: int, after: bool) -> None:
    found, uid = gathered(cluster), cluster.rest.get(f"{JOBS}/train")["metadata"]["uid"]
    assert cut_off(cluster, move(found), at, after)
    told = finished(cluster)
    wish = admit(move(found))
    if (at, after) == (1, False):
        assert not told and cluster.running().run_id == found.run_id
        assert cluster.backend.probe(wish, cluster.now()) is Effect.ABSENT
        return
    assert len(told) == ((at, after) != (2, True))
    seen = cluster.until(lambda c: any(r.state is JobState.RUNNING and r.nodes == ("n1",) for r in c.jobs))
    assert seen.jobs[0].id == found.id and cluster.rest.get(f"{JOBS}/train")["metadata"]["uid"] == uid
    assert cluster.backend.probe(wish, cluster.now()) is Effect.PRESENT
    assert cluster.backend.apply(wish, cluster.now()).outcome is Outcome.ALREADY
    assert cluster.running().run_id == seen.jobs[0].run_id, "the repeat moved it once more"
    assert not cluster.backend.finish(cluster.now())


def test_a_move_has_two_writes(cluster: ClusterStage) -> None:
    """What the table above rests on."""
    assert not cut_off(cluster, move(gathered(cluster)), at=3, after=False)


def test_where_the_room_is_gone_meanwhile_the_run_is_put_back(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    assert cut_off(cluster, move(found), at=1, after=True)
    cluster.soon(lambda: not cluster.rest.get(f"{JOBS}/train")["status"].get("active"))
    cluster.rest.patch("/api/v1/nodes/n1", {"spec": {"unschedulable": True}})
    assert "resumed where it was" in finished(cluster)[0]
    seen = cluster.until(lambda c: any(r.state is JobState.RUNNING and r.run_id != found.run_id for r in c.jobs))
    affinity = cluster.rest.get(f"{JOBS}/train")["spec"]["template"]["spec"].get("affinity")
    assert not affinity and seen.jobs[0].nodes != ("n1",)
    wish = admit(move(found))
    assert cluster.backend.probe(wish, cluster.now()) is Effect.ABSENT
    assert cluster.backend.apply(wish, cluster.now()).outcome is Outcome.STALE  # another run by now


def test_what_somebody_changed_in_between_is_left_to_them(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    assert cut_off(cluster, move(found), at=1, after=True)
    cluster.rest.patch(f"{JOBS}/train", {"spec": {"ttlSecondsAfterFinished": 60}})
    held = cluster.until(lambda c: c.jobs[0].state is JobState.HELD).jobs[0]
    assert not cluster.backend.finish(cluster.now()) and cluster.rest.get(f"{JOBS}/train")["spec"]["suspend"]
    assert "middle of a move" in held.reason


@pytest.mark.parametrize("mark", ["", "a1", "[]", "{}", '{"id": "a1", "generation": "x"}', '{"id": 1}', "{" * 5000])
@pytest.mark.parametrize("name", ["moving", "stopping"])
def test_an_odd_journal_is_no_reason_to_touch_a_job(tmp_path: Path, name: str, mark: str) -> None:
    with in_process(tmp_path) as cluster:
        run = cluster.running().run_id
        cluster.rest.patch(f"{JOBS}/train", {"metadata": {"annotations": {f"aiops.io/{name}": mark}}})
        assert cluster.backend.finish(cluster.now()) == () and cluster.running().run_id == run


@pytest.mark.parametrize(
    ("at", "after", "ends"),
    [
        (1, False, "never began"),
        (1, True, "still whole"),
        (2, False, "still whole"),
        (2, True, "evicted"),
        (3, False, "evicted"),
        (3, True, "evicted"),
        (4, False, "evicted"),
        (4, True, "done"),
    ],
)
def test_a_stop_killed_at_any_write_leaves_no_half_of_a_run(cluster: ClusterStage, at: int, after: bool, ends: str) -> None:
    """Its writes: the journal, two evictions, the end."""
    found = gathered(cluster)
    before = {pod["metadata"]["uid"] for pod in cluster.rest.get("/api/v1/namespaces/default/pods")["items"]}
    assert cut_off(cluster, stop(found), at, after)
    wish = admit(stop(found))
    if ends == "never began":
        assert not finished(cluster) and cluster.running().run_id == found.run_id
        assert cluster.backend.probe(wish, cluster.now()) is Effect.ABSENT
    elif ends == "still whole":
        assert not cluster.backend.finish(cluster.now()) and cluster.running().run_id == found.run_id
        assert cluster.backend.probe(wish, cluster.now()) is Effect.ABSENT
        assert cluster.backend.finish(cluster.now() + 61.0)  # nobody comes back to it: forgotten, and judged afresh
        assert not finished(cluster) and cluster.running().run_id == found.run_id
    else:
        assert cluster.backend.probe(wish, cluster.now()) is Effect.PRESENT
        assert bool(finished(cluster)) == (ends == "evicted")
        after_it = cluster.until(lambda c: any(r.state is JobState.RUNNING and r.run_id != found.run_id for r in c.jobs))
        left = {pod["metadata"]["uid"] for pod in cluster.rest.get("/api/v1/namespaces/default/pods")["items"]}
        web = {pod for pod in before if pod in left}
        assert len(web) == 1, "one pod is the service's; of the stopped run none is left"
        assert cluster.backend.apply(wish, cluster.now()).outcome is Outcome.ALREADY
        assert cluster.running().run_id == after_it.jobs[0].run_id


def test_half_a_stop_that_is_old_news_is_left_alone(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    assert cut_off(cluster, stop(found), at=2, after=True)
    run = cluster.until(lambda c: c.jobs[0].state is JobState.RUNNING and c.jobs[0].run_id != found.run_id).jobs[0].run_id
    assert "left as it is" in cluster.backend.finish(cluster.now() + 120.0)[0]
    assert cluster.running().run_id == run


def test_half_a_stop_waits_for_a_budget_and_never_deletes(cluster: ClusterStage) -> None:
    found = gathered(cluster)
    assert cut_off(cluster, stop(found), at=2, after=True)
    path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    cluster.rest.create(path, budget("keep", "train", minAvailable=2))
    cluster.soon(lambda: (cluster.rest.get(f"{path}/keep").get("status") or {}).get("currentHealthy") == 2)
    assert not cluster.backend.finish(cluster.now())
    cluster.rest._json("DELETE", f"{path}/keep", None)
    assert finished(cluster)


def test_placeholders_of_a_release_that_was_cut_off_go(cluster: ClusterStage) -> None:
    hold = HoldCapacity(hold="h", owner="o", nodes=("n1", "n2"), gpus=2, ttl_s=300.0, fence=1)
    assert cluster.backend.apply(admit(hold), cluster.now()).outcome is Outcome.DONE
    cluster.soon(lambda: len(cluster.placed()) == 2)
    Killed(cluster, 1, after=True)
    with pytest.raises(ReplyLost):
        cluster.backend.apply(admit(ReleaseHold(hold="h", fence=1), id="a2"), cluster.now())
    cluster.restart()
    cluster.soon(lambda: cluster.backend.finish(cluster.now()))
    cluster.soon(lambda: not cluster.placeholders())


def test_placeholders_of_live_holds_stay(cluster: ClusterStage) -> None:
    hold = HoldCapacity(hold="h", owner="o", nodes=("n1",), gpus=2, ttl_s=300.0, fence=1)
    assert cluster.backend.apply(admit(hold), cluster.now()).outcome is Outcome.DONE
    cluster.soon(lambda: len(cluster.placed()) == 1)
    cluster.restart()
    cluster.backend.observe(cluster.now())
    for _ in range(5):
        assert cluster.backend.finish(cluster.now()) == ()
        time.sleep(0.05)
    assert len(cluster.placed()) == 1


_ACTING = """
import sys
from aiops import codec
from aiops.action import Admission
from aiops.backends.kubernetes import KubernetesBackend
from aiops.clock import SystemClock
backend = KubernetesBackend.from_settings({"kubeconfig": sys.argv[1], "timeout": 20.0}, "test")
import kubernetes.client
print("ready", flush=True)
sys.stdin.readline()
backend.apply(codec.decode(Admission, sys.argv[2].encode()), SystemClock().now())
print("done", flush=True)
"""


@pytest.mark.parametrize("delay_ms", [0, 5, 10, 20, 40, 80])
def test_a_real_process_killed_at_any_time_leaves_one_move_or_none(cluster: ClusterStage, delay_ms: int) -> None:
    found = gathered(cluster)
    wish = admit(move(found))
    command = [sys.executable, "-c", _ACTING, cluster.section["kubeconfig"], codec.encode(wish).decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        process.stdin.write(b"\n")
        process.stdin.flush()
        time.sleep(delay_ms / 1e3)
        process.send_signal(signal.SIGKILL)
    cluster.restart()
    cluster.backend.observe(cluster.now())
    finished(cluster)
    moved = cluster.backend.probe(wish, cluster.now()) is Effect.PRESENT
    seen = cluster.running()
    assert (seen.nodes == ("n1",)) == moved and (seen.run_id != found.run_id) == moved
