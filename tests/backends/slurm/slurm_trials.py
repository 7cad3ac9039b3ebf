"""Randomised trials on real slurmctlds: `python tests/backends/slurm/slurm_trials.py 500 [seed] [clusters]`.

Some jobs run; each trial wishes one action on a run, a node, a hold or a bandwidth, and one thing goes wrong: an answer lost,
the daemon dead, slurmctld killed, the world moved, an id reused, an admission sent twice; after a death a person may cancel
or hold the job, or a daemon without our journal lead. Afterwards Slurm itself is asked: everything but the target is as before
(0 wrong target), the target was changed at most once (0 duplicate effect), what a person did stands, and no run is left held.
Most of a trial is waiting, so several clusters are tried side by side.
"""

from __future__ import annotations

import contextlib
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import slurm_people
from slurm_breaks import dropper, killer
from slurm_server import SlurmServer, wait_for
from slurm_sight import Sight, addresses, look, settled
from slurm_stage import SlurmStage
from slurm_wishes import Wishes

from aiops.action import Action, Admission, Effect, Outcome, target
from aiops.backends.slurm import marks
from aiops.backends.slurm.rows import TERMINAL
from aiops.model import Job, JobState, NodeState
from aiops.testing.backend import ReplyLost, admit

JOBS = 6
DEATHS = ("dies", "dies, a person acts", "dies, another leads")
FAULTS = ("none", "lost", *DEATHS, "twice", "ended", "requeued", "old id", "restart", "kill -9")
POINTS = ("after_begin", "after_mark", "after_effect", "after_place", "before_done")
UNTOUCHED = (Outcome.STALE, Outcome.FAILED, Outcome.UNSUPPORTED)


class Trials:
    """One cluster and its tally. `wrong` and `double` must stay empty; `undecided` are answers that no look could settle."""

    def __init__(self, server: SlurmServer, seed: int) -> None:
        self.stage = SlurmStage(server, preemptible_partitions=["train"], timeout=8.0)
        self.random = random.Random(seed)
        self.wishes = Wishes(self.stage, self.random)
        self.tally: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.double: list[str] = []
        self.bystanders: list[str] = []
        self.undecided: list[str] = []
        self.let_go: set[tuple[str, str]] = set()
        self.act: slurm_people.Act | None = None
        self.said = ""
        self.count = self.unknown = self.settled = 0

    def fill(self) -> list[Job]:
        """Enough jobs, running, suspended or held; requeued ones are let go."""
        deadline = time.monotonic() + 120.0  # ids come free a minute after their jobs
        while time.monotonic() < deadline:
            jobs = self.stage.observe().jobs
            self.wishes.remember(jobs)
            for job in jobs:
                waits = job.state in (JobState.QUEUED, JobState.HELD) and not job.run_id.endswith("-0")
                if waits and (job.id, job.run_id) not in self.let_go and self.lets_go(job):
                    self.let_go.add((job.id, job.run_id))
            usable = [job for job in jobs if job.state in (JobState.RUNNING, JobState.SUSPENDED, JobState.HELD)]
            for job in usable:
                if int(job.run_id.partition("-")[2]) >= 4:  # MaxBatchRequeue is 5
                    self.stage.server.run("scancel", job.id)
            alive = [job for job in jobs if job.state not in (JobState.CANCELLED, JobState.DONE, JobState.FAILED)]
            for number in range(JOBS - len(alive)):
                with contextlib.suppress(AssertionError):
                    self.stage.server.submit("-p", "train", "-c1", *(["--hold"] if number == 5 else []))
            if sum(job.state is not JobState.HELD for job in usable) >= 2:
                return usable
            time.sleep(0.05)
        raise AssertionError("no jobs to try on")

    def lets_go(self, job: Job) -> bool:
        """Not at once: a slurmd that has just ended the run would refuse it, and it would be FAILED."""
        server = self.stage.server
        server.run("scontrol", "release", job.id, check=False)  # one that was suspended is held by Slurm
        return not server.run("scontrol", "update", f"JobId={job.id}", "StartTime=now+2", check=False).returncode

    def trial(self, number: int) -> None:
        """One wish under one fault, and what Slurm says of it."""
        usable, fault = self.fill(), self.random.choice(FAULTS)
        action, id = self.wishes.draw(usable), f"t{number}"
        if fault in ("ended", "requeued", "old id"):
            action, fault = self.wishes.moved(action, fault)
        before = self.saved() if fault == "kill -9" else settled(look(self.stage.server))
        self.stage.asked.clear()
        self.act = None
        outcome = self.go(action, id, fault)
        after = look(self.stage.server)
        self.judge((action, id, fault, outcome), before, after)
        self.count += 1
        self.tally[f"{action.kind}: {outcome.value}"] += 1
        self.tally[f"fault {fault}: {outcome.value}"] += 1

    def saved(self) -> Sight:
        """What is there and saved: slurmctld writes its state some seconds late, and what it had not saved never was."""
        for _ in range(5):
            before = settled(look(self.stage.server))
            self.save()
            if settled(look(self.stage.server)) == before:
                break
        return before

    def save(self) -> None:
        """Wait until the files hold a word that was written now, and so all that was before it."""
        server, word = self.stage.server, f"saved-{time.monotonic_ns()}"
        jobs = [job for job in self.stage.observe().jobs if job.state in (JobState.RUNNING, JobState.SUSPENDED, JobState.HELD)]
        for name in (f"JobId={jobs[0].id}", "NodeName=gpu1"):
            server.run("scontrol", "update", name, f"Comment={word}", check=False)
        files = [server.s / "state" / name for name in ("job_state", "node_state")]
        wait_for(lambda: all(f.exists() and word.encode() in f.read_bytes() for f in files), "saved state", 30.0)

    def go(self, action: Action, id: str, fault: str) -> Outcome:
        """Apply under a fault; then what the ledger does: look, and send again only where a look proves the effect absent."""
        stage, admission = self.stage, admit(action, id=id)
        if fault == "lost":
            stage.drops = dropper(self.random.randint(1, 2))
        if fault == "kill -9":
            stage.section["timeout"] = 1.5
            stage.restart()
            stage.before = killer(stage, self.random.randint(1, 7))
        stage.dies_at = self.random.choice(POINTS) if fault in DEATHS else ""
        try:
            outcome = self.apply(admission)
        except ReplyLost:
            outcome, self.said = Outcome.UNKNOWN, "died"
        stage.drops, stage.dies_at, stage.before = lambda argv: False, "", lambda argv: None
        if fault == "kill -9":
            self.raise_again()
        if fault == "dies, another leads":
            return self.taken_over(action, id, outcome)
        kind, _, job = target(action).partition("/")
        if fault == "dies, a person acts" and outcome is Outcome.UNKNOWN and kind == "job":
            self.act = slurm_people.act(stage.server, job, self.random.choice(slurm_people.ACTS))
        if fault in ("restart", "lost", "kill -9", *DEATHS):
            stage.restart()
        if fault in ("twice", "restart"):
            told, again = self.said, self.apply(admission)  # what was refused once may be done now: that answer counts then
            outcome, self.said = (again, f"{told}; then {self.said}") if outcome in UNTOUCHED else (outcome, told)
        return self.settle(action, id, outcome) if outcome is Outcome.UNKNOWN else outcome

    def apply(self, admission: Admission) -> Outcome:
        receipt = self.stage.backend.apply(admission, self.stage.now())
        self.said = receipt.detail
        return receipt.outcome

    def taken_over(self, action: Action, id: str, outcome: Outcome) -> Outcome:
        """A daemon without our journal: it ends what it finds half done, looks, and sends nothing again."""
        stage = self.stage
        stage.section["state_dir"] = tempfile.mkdtemp(prefix="another-", dir=stage.server.s)
        stage.restart()
        self.finish()
        effect = stage.backend.probe(admit(action, id=id), stage.now())
        stage.section["state_dir"] = str(stage.directory)
        stage.restart()
        self.unknown += outcome is Outcome.UNKNOWN
        self.settled += outcome is Outcome.UNKNOWN and effect is not Effect.UNREADABLE
        return outcome if outcome is not Outcome.UNKNOWN else Outcome.ALREADY if effect is Effect.PRESENT else Outcome.UNKNOWN

    def finish(self) -> None:
        """What a leader does every second, until no move is left open."""

        def ended() -> bool:
            self.stage.observe()
            alive = [row for row in self.stage.backend._query.jobs_seen() if not row.states & TERMINAL]
            self.stage.backend.finish(self.stage.now())
            return not any(marks.moving(row.admin_comment) for row in alive)

        wait_for(ended, "end of what was begun", 20.0)

    def settle(self, action: Action, id: str, outcome: Outcome) -> Outcome:
        """An answer that never came: looked for until it is told, and counted."""
        self.unknown += 1
        for _ in range(6):
            effect = self.stage.backend.probe(admit(action, id=id), self.stage.now())
            if effect is Effect.PRESENT:
                outcome = Outcome.ALREADY
            elif effect is Effect.ABSENT:
                outcome = self.apply(admit(action, id=id))
            if outcome is not Outcome.UNKNOWN:
                self.settled += 1
                return outcome
            time.sleep(0.5)
        self.undecided.append(f"{id} {action}: {effect}")
        return outcome

    def raise_again(self) -> None:
        """slurmctld is back, and its nodes have answered it."""
        stage = self.stage
        if "slurmctld" in stage.server.daemons:
            stage.server.kill_controller()  # the action asked fewer questions than were drawn: it is killed right after
        stage.server.start_controller()
        stage.section["timeout"] = 8.0
        stage.restart()
        wait_for(
            lambda: all(n.state is not NodeState.DOWN for n in stage.observe().nodes if n.name.startswith("gpu")), "nodes", 60.0
        )

    def judge(self, about: tuple[Action, str, str, Outcome], before: Sight, after: Sight) -> None:
        action, id, fault, outcome = about
        aim, text = self.wishes.named(action), f"{id} {action.kind} {target(action)} ({fault}): {outcome.value} ({self.said})"
        for other, row in before.items():
            gone = other.startswith("job/") and other not in after  # forgotten: over for MinJobAge
            if other != aim and not gone and after.get(other) != row:
                ours = [argv for argv in self.stage.asked if addresses(argv, other)]
                said = f"{text}: {other} was {row}, is {after.get(other)}; we wrote {ours}; {self.log_of(other)}"
                (self.wrong if ours else self.bystanders).append(said)
        extra = [key for key in after if key.startswith("res/") and key not in before and key != aim]
        if extra:
            self.wrong.append(f"{text}: made {extra}")
        was, now = before.get(aim), after.get(aim)
        row = self.stage.server.job(aim.partition("/")[2]) if aim.startswith("job/") else {}
        undone = self.act.undone(row) if self.act is not None else ""
        if undone:
            self.wrong.append(f"{text}: {undone}")
        if "aiops-moves" in row.get("AdminComment", "") or (self.act is None and was and was[0] == "RUNNING" and held(row)):
            self.wrong.append(f"{text}: left held or half moved: {row}")
        if self.act is None and outcome in UNTOUCHED and was and now and now != was:
            self.wrong.append(f"{text}: answered {outcome} but {aim} was {was}, is {now}")
        if aim.startswith("job/") and was and now and int(now[1]) > int(was[1]) + 1 + (self.act.added if self.act else 0):
            self.double.append(f"{text}: restarts {was[1]} -> {now[1]}")
        if Counter(self.stage.effects())[id] > 1:
            self.double.append(f"{text}: journal")

    def log_of(self, key: str) -> str:
        """What slurmctld wrote last about a job or a node."""
        word = re.escape(key.partition("/")[2])
        lines = (self.stage.server.s / "log/slurmctld.log").read_text(errors="replace").splitlines()
        return " | ".join(line for line in lines if re.search(rf"\b{word}\b", line))[-600:]


def held(row: Mapping[str, str]) -> bool:
    return row.get("JobState") == "PENDING" and row.get("Priority") == "0"


def run(count: int, seed: int = 1, clusters: int = 1, limit_s: float = 3600.0) -> list[Trials]:
    """Fresh clusters with few job ids, `count` trials shared out among them, and the clusters ended."""
    servers: list[SlurmServer] = []
    until = time.monotonic() + limit_s
    try:
        for _ in range(clusters):  # one after the other: each looks for free ports
            servers.append(SlurmServer(max_job_id=120, min_job_age=2))
            servers[-1].start()
        done = [Trials(server, seed * 1000 + i) for i, server in enumerate(servers)]
        with ThreadPoolExecutor(clusters) as pool:
            list(pool.map(lambda pair: several(pair[1], len(range(pair[0], count, clusters)), until), enumerate(done)))
        return done
    finally:
        with ThreadPoolExecutor(clusters) as pool:
            list(pool.map(lambda server: server.stop(), servers))


def several(trials: Trials, count: int, until: float) -> None:
    for number in range(count):
        if time.monotonic() > until:
            return
        trials.trial(number)
        if sys.stderr.isatty() or number % 20 == 19:
            print(f"{number + 1}/{count}", end="\n", file=sys.stderr)
    trials.stage.backend.close()


def report(done: Sequence[Trials]) -> str:
    """The tally of all clusters in words; what must be empty, at its end."""
    tally = sum((trials.tally for trials in done), Counter())
    lines = [f"{number:6} {name}" for name, number in sorted(tally.items())]
    total = {name: sum(getattr(trials, name) for trials in done) for name in ("count", "unknown", "settled")}
    lists = {name: [x for t in done for x in getattr(t, name)] for name in ("wrong", "double", "bystanders", "undecided")}
    lines.append(f"trials: {total['count']}; answers lost: {total['unknown']}, settled by a look: {total['settled']}")
    lines.append("; ".join(f"{name}: {len(found)}" for name, found in lists.items()))
    return "\n".join(lines + [f"{name}: {text}" for name, found in lists.items() for text in found])


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    finished = run(*(given or [500]))
    print(report(finished))
    sys.exit(any(trials.wrong or trials.double for trials in finished))
