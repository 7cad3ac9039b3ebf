"""Randomised trials on a real slurmctld: `python tests/backends/slurm/slurm_trials.py 500 [seed]`.

A few jobs run; each trial wishes one action on one of them, and one thing goes wrong: an answer lost, the daemon dead, the
world moved, an id reused, an admission sent twice. Afterwards Slurm itself is asked: every run but the target's is as before
(0 wrong job), and the target was changed at most once (0 duplicate effect).
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence

import orjson
from slurm_server import SlurmServer
from slurm_stage import SlurmStage

from aiops.action import Action, Effect, Outcome, Preempt, Resume, Suspend
from aiops.model import Job, JobState
from aiops.testing.backend import ReplyLost, admit

JOBS = 6
FAULTS = ("none", "lost", "dies", "twice", "ended", "requeued", "old id", "restart")
POINTS = ("after_begin", "after_mark", "after_effect", "before_done")
Sight = dict[int, tuple[str, int, float, float]]
"""By job id: state, restarts, submit time, when last suspended or resumed: any effect changes one of them."""


class Trials:
    """One cluster and its tally. `wrong` and `double` must stay empty."""

    def __init__(self, server: SlurmServer, seed: int) -> None:
        self.stage = SlurmStage(server, preemptible_partitions=["train"], timeout=8.0)
        self.random = random.Random(seed)
        self.tally: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.double: list[str] = []
        self.stage_faults: list[str] = []
        self.let_go: set[tuple[str, str]] = set()
        self.past: dict[str, set[str]] = {}

    def fill(self) -> list[Job]:
        """Enough jobs, running or suspended; requeued ones are let go at once."""
        deadline = time.monotonic() + 120.0  # ids come free a minute after their jobs
        while time.monotonic() < deadline:
            jobs = self.stage.observe().jobs
            for job in jobs:
                self.past.setdefault(job.id, set()).add(job.run_id)
            for job in jobs:
                waits = job.state in (JobState.QUEUED, JobState.HELD) and not job.run_id.endswith("-0")
                if waits and (job.id, job.run_id) not in self.let_go and self.lets_go(job):
                    self.let_go.add((job.id, job.run_id))
            usable = [job for job in jobs if job.state in (JobState.RUNNING, JobState.SUSPENDED)]
            for job in usable:
                if int(job.run_id.partition("-")[2]) >= 4:  # MaxBatchRequeue is 5
                    self.stage.server.run("scancel", job.id)
            alive = [job for job in jobs if job.state not in (JobState.CANCELLED, JobState.DONE, JobState.FAILED)]
            for _ in range(JOBS - len(alive)):
                with contextlib.suppress(AssertionError):
                    self.stage.server.submit("-p", "train", "-c1")
            if len(usable) >= 2:
                return usable
            time.sleep(0.05)
        raise AssertionError("no jobs to try on")

    def lets_go(self, job: Job) -> bool:
        """Not at once: a slurmd that has just ended the run would refuse it, and it would be FAILED."""
        server = self.stage.server
        server.run("scontrol", "release", job.id, check=False)  # one that was suspended is held by Slurm
        return not server.run("scontrol", "update", f"JobId={job.id}", "StartTime=now+2", check=False).returncode

    def look(self) -> Sight:
        raw = orjson.loads(self.stage.server.run("squeue", "--json").stdout)["jobs"]
        return {j["job_id"]: (j["job_state"], j["restart_cnt"], j["submit_time"], j["suspend_time"]) for j in raw}

    def trial(self, number: int) -> None:
        usable = self.fill()
        job, fault = self.random.choice(usable), self.random.choice(FAULTS)
        action, id = self.wish(job), f"t{number}"
        if fault in ("ended", "requeued"):
            self.stage.server.run(*(("scancel", job.id) if fault == "ended" else ("scontrol", "requeue", job.id)))
        if fault == "old id":
            action = self.aged(job, action)
        before, self.stage.asked[:] = self.settled(self.look()), []
        outcome = self.go(action, id, fault)
        after = self.look()
        self.judge(job, (id, fault, outcome), before, after)
        self.tally[f"{fault}: {outcome.value}"] += 1

    def wish(self, job: Job) -> Action:
        if job.state is JobState.SUSPENDED:
            return Resume(job=job.id, run_id=job.run_id)
        if self.random.random() < 0.5:
            return Suspend(job=job.id, run_id=job.run_id)
        return Preempt(job=job.id, run_id=job.run_id, on_nodes=job.nodes, checkpoint="", gpus=job.gpus, lost_gpu_s=0.0)

    def aged(self, job: Job, action: Action) -> Action:
        """The same wish, but for an earlier run of this id: another job's, where the id was reused."""
        earlier = sorted(self.past[job.id] - {job.run_id}) or ["1-0"]
        reused = {run.partition("-")[2] for run in earlier} & {"0"} and not job.run_id.startswith(earlier[0].partition("-")[0])
        self.tally["ids reused"] += bool(reused) and earlier != ["1-0"]
        return Suspend(job=job.id, run_id=self.random.choice(earlier))

    def go(self, action: Action, id: str, fault: str) -> Outcome:
        """Apply under a fault; then what the ledger does: look, and send again only where a look proves the effect absent."""
        stage, admission = self.stage, admit(action, id=id)
        if fault == "lost":
            nth = self.random.randint(1, 2)
            stage.drops = self.dropper(nth)
        stage.dies_at = self.random.choice(POINTS) if fault == "dies" else ""
        try:
            outcome = stage.backend.apply(admission, stage.now()).outcome
        except ReplyLost:
            outcome = Outcome.UNKNOWN
        stage.drops, stage.dies_at = lambda argv: False, ""
        if fault in ("restart", "dies", "lost"):
            stage.restart()
        for _ in range(3 if fault in ("twice", "restart") or outcome is Outcome.UNKNOWN else 0):
            if outcome is Outcome.UNKNOWN and stage.backend.probe(admission, stage.now()) is not Effect.ABSENT:
                continue
            again = stage.backend.apply(admission, stage.now()).outcome
            outcome = again if outcome is Outcome.UNKNOWN else outcome
        return outcome

    def dropper(self, nth: int):
        seen = 0

        def drop(argv: Sequence[str]) -> bool:
            nonlocal seen
            writes = argv[:2] == ("scontrol", "--") and argv[2] != "show"
            seen += writes
            return writes and seen == nth

        return drop

    def settled(self, sight: Sight) -> Sight:
        """What runs or is suspended now: these may only change if they are the target."""
        return {id: row for id, row in sight.items() if row[0] in ("RUNNING", "SUSPENDED", "CANCELLED")}

    def judge(self, job: Job, about: tuple[str, str, Outcome], before: Sight, after: Sight) -> None:
        id, _, outcome = about
        for other, row in before.items():
            if other != int(job.id) and other in after and after[other] != row:
                ours = [argv for argv in self.stage.asked if "show" not in argv and addresses(argv, other)]
                text = f"{about}: job {other} was {row}, is {after[other]}; we wrote {ours}; {self.log_of(other)}"
                (self.wrong if ours else self.stage_faults).append(text)
        was, now = before.get(int(job.id)), after.get(int(job.id))
        untouched = outcome in (Outcome.STALE, Outcome.FAILED, Outcome.UNSUPPORTED)
        if was and now and untouched and now != was:
            self.wrong.append(f"{about}: answered {outcome} but job {job.id} was {was}, is {now}")
        if was and now and now[1] > was[1] + 1:
            self.double.append(f"{about}: restarts {was[1]} -> {now[1]}")
        if Counter(self.stage.effects())[id] > 1:
            self.double.append(f"{about}: journal")

    def log_of(self, id: int) -> str:
        """What slurmctld wrote last about a job."""
        lines = (self.stage.server.s / "log/slurmctld.log").read_text(errors="replace").splitlines()
        return " | ".join(line for line in lines if re.search(rf"JobId={id}\b", line))[-600:]


def addresses(argv: Sequence[str], id: int) -> bool:
    """True where a command of ours that changes something names this job."""
    changes = argv[0] in ("scontrol", "scancel")
    return changes and any(word in (str(id), f"JobId={id}") for word in argv[1:])


def run(count: int, seed: int = 1, limit_s: float = 3600.0) -> Trials:
    """A fresh cluster with few job ids, `count` trials, and the cluster ended."""
    server = SlurmServer(max_job_id=120, min_job_age=2)
    try:
        server.start()
        trials = Trials(server, seed)
        until = time.monotonic() + limit_s
        for number in range(count):
            if time.monotonic() > until:
                break
            trials.trial(number)
            if sys.stderr.isatty() or number % 50 == 49:
                print(f"\r{number + 1}/{count}", end="", file=sys.stderr)
        trials.stage.backend.close()
        return trials
    finally:
        server.stop()


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    done = run(*(given or [500]))
    for name, number in sorted(done.tally.items()):
        print(f"{number:6} {name}")
    print(f"trials: {sum(done.tally.values()) - done.tally['ids reused']}")
    print(
        f"wrong job: {len(done.wrong)}  duplicate effect: {len(done.double)}  bystanders nobody named: {len(done.stage_faults)}"
    )
    print("\n".join(done.wrong + done.double + done.stage_faults))
    sys.exit(bool(done.wrong or done.double))
