"""A story on a real slurmctld, told by the daemon's own loop: `python tests/backends/slurm/slurm_story.py` prints it.

    forecast -> an important job waits -> checkpoint -> hold -> preempt -> it starts -> it ends -> the victim runs again

What runs is what `aiops run` runs: wiring, store, forecasts, policies, admission, ledger, backend. Two things are set here: the
backend's commands run as the test cluster's SlurmUser, whom it would refuse to be (this Slurm has no accounting, and so no
operators); and the last three hours of demand are written into the store, since nobody waits three hours for a story.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from slurm_server import SlurmServer
from slurm_stage import SlurmStage

from aiops.action import Admission, Outcome, target
from aiops.clock import SystemClock
from aiops.jobs.control import Control
from aiops.jobs.identity import Identity
from aiops.loop import run_cycle
from aiops.model import Batch, Job, JobState, SeriesKey
from aiops.refresh import refresh_findings
from aiops.settings import Settings
from aiops.wiring import Parts, assemble, foreseen

HISTORY_S, STEP_S = 3 * 3600.0, 60.0
OLD_S = 16.0  # from this age on a checkpoint is asked for anew; the policy looks every 10 s
POLICY = {"mode": "act", "hold_s": "20s", "checkpoint_age_s": OLD_S}
LIMITS = {"nodes_ratio": 0.9, "approve_gpus": 64, "max_wall_step_s": 60.0}  # three nodes: one is a third


@dataclass
class Story:
    """The cluster, the daemon's parts, and what was told so far."""

    stage: SlurmStage
    parts: Parts
    began: float = field(default_factory=lambda: SystemClock().now())
    lines: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    done: list[tuple[str, Outcome]] = field(default_factory=list)
    """Kind and outcome of each action that was sent, in order."""

    def tell(self, who: str, text: str) -> None:
        line = f"{SystemClock().now() - self.began:6.1f} s  {who:<9} {text}"
        self.lines.append(line)
        print(line, flush=True)

    def cycle(self) -> None:
        """One cycle of the daemon; what it admitted, refused and was answered, as its own ledger has it."""
        self.parts.leadership.renew()
        decided = run_cycle(self.parts.house, self.parts.memory, self.stage.now(), self.parts.leadership.epoch or 0)
        for note in decided.notes if decided else ():
            self.once(f"note {note}", "policy", str(note))
        for entry in self.parts.store.entries(self.began):
            receipt = entry.receipt
            if receipt is not None and entry.admission.id not in self.told:
                self.told.add(entry.admission.id)
                self.done.append((entry.admission.decision.action.kind, receipt.outcome))
                self.tell("policy", said(entry.admission))
                self.tell("slurm", f"{receipt.outcome.value}: {receipt.detail}".strip(": "))
            if entry.verdict is not None:
                self.once(
                    f"v{entry.admission.id}", "verdict", f"{entry.admission.decision.action.kind} {entry.verdict.effect.value}"
                )
        for admission in self.parts.store.admissions(self.began, self.stage.now() + 1):
            if admission.denied is not None:
                refused = f"{admission.decision.action.kind} {target(admission.decision.action)}: {admission.denied.value}"
                self.once(refused, "admission", f"refused {refused} ({admission.detail})")

    def once(self, key: str, who: str, text: str) -> None:
        if key not in self.told:
            self.told.add(key)
            self.tell(who, text)

    def until(self, holds: Callable[[], bool], within_s: float = 60.0) -> None:
        """Cycles until it holds, two seconds apart."""
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError("the story does not go on:\n" + "\n".join(self.lines))
            self.cycle()
            time.sleep(2.0)

    def job(self, id: str) -> Job:
        return next(job for job in self.stage.observe().jobs if job.id == id)


def said(admission: Admission) -> str:
    action = admission.decision.action
    return f"{action.kind} {target(action)}: {admission.decision.reason}"


def answering(story: Story, victim: Job) -> Iterator[None]:
    """The training loop of the victim, which looks for requests as `aiops.jobs` does, and answers with a checkpoint."""
    place = Path(story.stage.section["control_dir"].format(job=victim.id))
    place.mkdir(exist_ok=True)
    client = Control(Identity(job_id=victim.id, run_id=victim.run_id.partition("-")[2], rank="0", control=place))
    step = 100
    (place / "weights.bin").write_bytes(bytes(1000))
    client.acknowledge(place / "weights.bin", step)
    story.tell("job", f"victim wrote its usual checkpoint at step {step}: it can be stopped at all")
    while True:
        step += 1
        yield
        client.look()
        if asked := client.requested():
            (place / "weights.bin").write_bytes(bytes(1000))
            client.acknowledge(place / "weights.bin", step)
            story.tell("job", f"victim wrote its checkpoint at step {step}, as asked by {asked}")


def foresee(story: Story) -> None:
    """Three hours of growing demand, forecast by the daemon's own forecasters."""
    now = story.stage.now()
    times = now - np.arange(HISTORY_S, 0.0, -STEP_S)
    for metric, values in (
        ("pool_gpus_demanded", 6.0 + 17.0 * (times - times[0]) / HISTORY_S),
        ("pool_gpus", np.full(len(times), 24.0)),
    ):
        key = SeriesKey.of(metric, pool="h200")
        for at, value in zip(times, values, strict=True):
            story.parts.store.append(Batch.of(float(at), [(key, float(value))]))
    cluster = story.stage.observe()
    story.parts.refresher.forecasts(now, foreseen(story.parts.house.policies, cluster))
    found = refresh_findings(story.parts.store, story.parts.diagnosers, cluster, (now, story.parts.evidence))
    for forecast in story.parts.store.forecasts():
        if forecast.target.startswith("pool_gpus_demanded"):
            p50, p95 = (forecast.at_quantile(q)[-1] for q in (0.5, 0.95))
            text = f"{p50:.1f}, at most {p95:.1f} (P95), by {forecast.model}"
            ahead = (forecast.times[-1] - now) / 60
            story.tell("forecast", f"{forecast.target} in {ahead:.0f} minutes: {text}")
    for one in found:
        story.tell("finding", one.summary)
    while story.stage.now() - now < OLD_S:  # the usual checkpoint grows old
        time.sleep(0.2)


def tell(server: SlurmServer, place: Path) -> Story:
    """All of it, on a cluster that is up; AssertionError where it does not go on."""
    stage = SlurmStage(server, min_runtime=1.0)  # a story's victims are young
    settings = Settings(
        data_dir=place, backend={"slurm": stage.section}, collectors={}, policies={"preempt": POLICY}, limits=LIMITS,
        every={"tick": 2.0},
    )  # fmt: skip
    parts = assemble(settings, "story", SystemClock())
    parts.house.backend.close()
    story = Story(stage, replace(parts, house=replace(parts.house, backend=stage.backend)))
    try:
        play(story)
    finally:
        parts.leadership.release()
        parts.refresher.close()
        parts.store.close()
    return story


def play(story: Story) -> None:
    stage, server = story.stage, story.stage.server
    story.parts.leadership.renew()
    victim = stage.running("--gpus=8", "-p", "train", "-w", "gpu3", "-J", "victim")
    for node in ("gpu1", "gpu2"):
        other = stage.running("--gpus=8", "-p", "train", "-w", node, "-J", f"work-{node}")
        server.run("scontrol", "update", f"JobId={other.id}", "Priority=90000")
    story.tell("slurm", f"job {victim.id} victim runs on gpu3, 8 GPUs, run {victim.run_id}; gpu1 and gpu2 do work as important")
    loop = answering(story, victim)
    next(loop)
    foresee(story)
    peak = server.submit("--gpus=h200:8", "-N", "1", "-p", "train", "-J", "peak")
    server.run("scontrol", "update", f"JobId={peak}", "Priority=90000")
    story.tell("user", f"job {peak} peak asks for 8 H200 of one node with priority 90000, and waits")
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.5) and next(loop, True) is None:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        story.until(lambda: story.job(victim.id).run_id != victim.run_id)
    finally:
        stop.set()
        thread.join()
    story.tell("slurm", f"job {victim.id} victim is {story.job(victim.id).state.value}, run {story.job(victim.id).run_id}")
    story.until(lambda: story.job(peak).state is JobState.RUNNING)
    holds = ", ".join(stage.observe().holds)
    story.tell("slurm", f"job {peak} peak runs on {','.join(story.job(peak).nodes)}; reservations: {holds}")
    server.run("scancel", peak)
    story.tell("user", f"job {peak} peak is done")
    story.until(lambda: not stage.observe().holds, 120.0)
    story.tell("slurm", "the hold's reservation has ended by itself")
    server.wait_state(victim.id, "PENDING", "RUNNING")
    if story.job(victim.id).state in (JobState.QUEUED, JobState.HELD):
        server.run("scontrol", "update", f"JobId={victim.id}", "StartTime=now")
        story.tell("story", "not waited for: the two minutes that Slurm lets a requeued run wait")
    story.until(lambda: story.job(victim.id).state is JobState.RUNNING)
    again = story.job(victim.id)
    story.tell("slurm", f"job {victim.id} victim runs again on {','.join(again.nodes)}, run {again.run_id}")


if __name__ == "__main__":
    cluster = SlurmServer()
    try:
        cluster.start()
        with tempfile.TemporaryDirectory() as directory:
            sent = tell(cluster, Path(directory)).done
    finally:
        cluster.stop()
    sys.exit(sent != [(kind, Outcome.DONE) for kind in ("request_checkpoint", "hold_capacity", "preempt")])
