"""Mutated checkpoints: nobody is stopped without a valid proof, and nearly everybody who has one still is.

    python tests/campaign/checkpoints.py [--cases 10000] [--seed 1]     (make campaign-checkpoints)

A third of the cases break what the job wrote (its acknowledgement in every field, its files in every way) and read it with the
product's own verifier; a third break the record in every field, as another backend might tell it; a third break the record
between the policy's wish and its admission. Then the real policies and the real core decide. What is valid (I9) and what is
useful (within the policy's own terms) is judged here a second time, from the files and the record alone.
"""

import argparse
import contextlib
import hashlib
import json
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiops.action import Decision, Mode, Preempt
from aiops.backends.checkpoint import Proofs
from aiops.decide.admit import admit
from aiops.decide.core import decide
from aiops.decide.limits import Limits
from aiops.model import Checkpoint, Cluster, Gpu, Job, JobState, Node, NodeState, Queue
from aiops.ports import Policy
from aiops.snapshot import Snapshot
from policies.preempt import PreemptPolicy
from policies.reclaim import Reclaim

NOW = 1_750_000_000.0
RUN = "train.3"
PROOF_AGE_S, CHECKPOINT_AGE_S = 30.0, 3600.0  # I9, and the core's default
USEFUL_PROOF_S, USEFUL_CHECKPOINT_S = 25.0, 300.0  # the policies' terms
ODD = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300, NOW * 1000)
POLICIES: dict[str, Policy] = {"preempt": PreemptPolicy(), "reclaim": Reclaim()}
NODES = (Node(name="n0", uid="u0", pool="p", state=NodeState.READY, gpus=tuple(Gpu(uuid=f"g{i}", index=i) for i in range(8))),)
QUEUES = (Queue(name="low", quota_gpus=0), Queue(name="high", quota_gpus=8))
Mutation = Callable[[random.Random, Path, dict[str, Any]], object]


@dataclass
class Count:
    """What became of the cases."""

    cases: int = 0
    valid: int = 0
    useful: int = 0
    stopped: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)


# -- what the job wrote ------------------------------------------------------------------------------------------------


def written(place: Path, draws: random.Random) -> dict[str, Any]:
    """A sound checkpoint of two files, and its acknowledgement."""
    rows = []
    for name in ("model.bin", "optimiser.bin"):
        path = place / name
        path.write_bytes(draws.randbytes(draws.randint(1, 200)))
        rows.append({"path": str(path), "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    at = NOW - draws.uniform(1, 280)
    return {"id": "preempt-7", "run_id": RUN, "at": at, "step": 1200, "complete": True, "manifest": {"files": rows}}


def rows_of(ack: dict[str, Any]) -> Any:
    """The manifest's rows, or a place to break where an earlier mutation took them away."""
    manifest = ack.get("manifest")
    files = manifest.get("files") if isinstance(manifest, dict) else None
    return files if isinstance(files, list) and files and isinstance(files[0], dict) else [{}]


def flip(draws: random.Random, place: Path) -> None:
    """One bit of one file."""
    path = place / draws.choice(("model.bin", "optimiser.bin"))
    if path.is_file():
        data = bytearray(path.read_bytes())
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
        path.write_bytes(bytes(data))


def alien(draws: random.Random) -> Any:
    """A value that has no business in a field."""
    return draws.choice((None, "", "x", -1, 0, 1e18, True, False, [], {}, [None], "\0", "../../etc/passwd", 2**63))


DISK: dict[str, Mutation] = {
    "nothing": lambda d, p, a: None,
    "an extra key": lambda d, p, a: a.update(note="x" * d.randint(0, 50)),
    "another step": lambda d, p, a: a.update(step=d.choice((None, 7, "many", -3))),
    "another id": lambda d, p, a: a.update(id=d.choice(("own-1", "", "preempt-8", "é"))),
    "a hash in capitals": lambda d, p, a: rows_of(a)[0].update(sha256=str(rows_of(a)[0].get("sha256", "")).upper()),
    "a little older or newer": lambda d, p, a: a.update(at=NOW - d.uniform(0, 299)),
    "another run": lambda d, p, a: a.update(run_id=d.choice(("train.2", "train.33", "TRAIN.3", "train.3 ", ""))),
    "an old checkpoint": lambda d, p, a: a.update(at=NOW - d.uniform(310, 1e6)),
    "from the future": lambda d, p, a: a.update(at=NOW + d.uniform(0.1, 1e6)),
    "an odd time": lambda d, p, a: a.update(at=d.choice(ODD)),
    "not complete": lambda d, p, a: a.update(complete=d.choice((False, None, "true", 1, "yes"))),
    "a key taken away": lambda d, p, a: a.pop(d.choice(sorted(a)), None) if a else None,
    "an alien value": lambda d, p, a: a.update({d.choice(("id", "run_id", "at", "complete", "manifest")): alien(d)}),
    "an alien manifest": lambda d, p, a: a.update(manifest=d.choice(({}, {"files": []}, {"files": None}, {"files": [1]}))),
    "an alien row": lambda d, p, a: rows_of(a)[0].update({d.choice(("path", "bytes", "sha256")): alien(d)}),
    "another size": lambda d, p, a: rows_of(a)[0].update(bytes=d.randint(0, 500)),
    "another hash": lambda d, p, a: rows_of(a)[0].update(sha256=d.randbytes(32).hex()),
    "a relative path": lambda d, p, a: rows_of(a)[0].update(path="model.bin"),
    "a directory": lambda d, p, a: rows_of(a)[0].update(path=str(p)),
    "a bit flipped": lambda d, p, a: flip(d, p),
    "a file cut short": lambda d, p, a: (p / "model.bin").write_bytes((p / "model.bin").read_bytes()[:-1]),
    "a file longer": lambda d, p, a: (p / "model.bin").write_bytes((p / "model.bin").read_bytes() + b"x"),
    "a file gone": lambda d, p, a: (p / "optimiser.bin").unlink(missing_ok=True),
}


def torn(draws: random.Random, text: str) -> str:
    """The acknowledgement as it is when its writer died, or worse."""
    return draws.choice((text[: draws.randrange(len(text))], "", "null", "[]", "{", text + "}", "[" * 5000, "\ufeff" + text))


def sound(place: Path) -> float | None:
    """When the checkpoint that lies here was completed by this very run; None unless it is whole. Written a second time."""
    try:
        ack = json.loads((place / "checkpoint-ack.json").read_text(encoding="utf-8"))
        named = isinstance(ack["id"], str) and ack["run_id"] == RUN and ack["complete"] is True
        rows = ack["manifest"]["files"]
        good = [
            Path(row["path"]).is_absolute() and isinstance(row["bytes"], int) and not isinstance(row["bytes"], bool)
            and (data := Path(row["path"]).read_bytes()) is not None and len(data) == row["bytes"]
            and hashlib.sha256(data).hexdigest() == row["sha256"].lower()
            for row in rows
        ]  # fmt: skip
        at = ack["at"]
        whole = named and isinstance(rows, list) and bool(good) and all(good) and isinstance(at, int | float) and at is not True
        return float(at) if whole and math.isfinite(at) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


# -- what is told of it ------------------------------------------------------------------------------------------------


def record(draws: random.Random) -> tuple[Checkpoint, str]:
    """A sound record with one or two fields broken, and which."""
    proof = Checkpoint(id="c1", run_id=RUN, at=NOW - draws.uniform(1, 280), read_at=NOW - draws.uniform(0, 20), verified=True)
    names = draws.sample(("nothing", "step", "id", "run_id", "at", "read_at", "verified"), draws.choice((1, 1, 2)))
    for name in names:
        match name:
            case "step":
                proof = replace(proof, step=draws.choice((None, 5, -1)))
            case "id":
                proof = replace(proof, id=draws.choice(("", "c2", "c1 ", "C1")))
            case "run_id":
                proof = replace(proof, run_id=draws.choice(("", "train.2", "train.30", "Train.3")))
            case "at":
                proof = replace(proof, at=draws.choice((*ODD, NOW + 0.5, NOW - 310, NOW - 4000, NOW - draws.uniform(1, 290))))
            case "read_at":
                proof = replace(proof, read_at=draws.choice((*ODD, NOW + 0.5, NOW - 31, NOW - 24, NOW - 600)))
            case "verified":
                proof = replace(proof, verified=False)
    return proof, "record: " + ", ".join(names)


def valid(proof: Checkpoint | None, proof_s: float = PROOF_AGE_S, age_s: float = CHECKPOINT_AGE_S) -> bool:
    """I9, written a second time."""
    if proof is None or proof.verified is not True or proof.run_id != RUN:
        return False
    return 0 <= NOW - proof.read_at <= proof_s and 0 <= NOW - proof.at <= age_s


def seen(proof: Checkpoint | None, policy: str) -> Snapshot:
    """A full node, its job with this checkpoint, and an important job that waits for it and owns the share."""
    lender = "high" if policy == "reclaim" else ""
    victim = Job(
        id="train", run_id=RUN, name="train", queue="low", state=JobState.RUNNING, gpus=8, submitted_at=NOW - 9e4,
        nodes=("n0",), started_at=NOW - 8e4, checkpoint=proof, checkpoint_s=20.0, restart_s=60.0, preemptible=True,
        lender=lender,
    )  # fmt: skip
    waiting = Job(
        id="vip", run_id="v", name="vip", queue="high", state=JobState.QUEUED, gpus=8, submitted_at=NOW - 60.0, priority=10
    )
    cluster = Cluster(at=NOW, backend="campaign", nodes=NODES, jobs=(victim, waiting), queues=QUEUES)
    return Snapshot(
        id="1", now=NOW, epoch=1, cluster=cluster, due=(policy,), modes={policy: Mode.ACT},
        supports=("hold_capacity", "preempt", "request_checkpoint"),
    )  # fmt: skip


# -- the campaign ------------------------------------------------------------------------------------------------------


def stops(snapshot: Snapshot, policy: str) -> bool:
    """Whether the real core permits a stop on this very snapshot."""
    decided = decide(snapshot, {policy: POLICIES[policy]})
    assert not decided.failed, decided.failed
    return any(a.permitted and isinstance(a.decision.action, Preempt) for a in decided.admissions)


def on_disk(draws: random.Random, place: Path) -> tuple[bool, bool, bool, str]:
    """(valid, useful, stopped, how it was broken) of what a job wrote."""
    ack = written(place, draws)
    names = draws.sample(sorted(DISK), draws.choice((1, 1, 2)))
    for name in names:
        with contextlib.suppress(OSError):  # the file to break is gone already
            DISK[name](draws, place, ack)
    text = json.dumps(ack)
    (place / "checkpoint-ack.json").write_text(torn(draws, text) if draws.random() < 0.05 else text, encoding="utf-8")
    proofs = Proofs()
    proof = proofs.look(place, RUN, NOW, patience_s=30.0)
    proofs.close()
    at = sound(place)
    age = math.inf if at is None else NOW - at
    policy = draws.choice(sorted(POLICIES))
    useful = 0 <= age <= USEFUL_CHECKPOINT_S
    return 0 <= age <= CHECKPOINT_AGE_S, useful, stops(seen(proof, policy), policy), "disk: " + ", ".join(names)


def as_told(draws: random.Random) -> tuple[bool, bool, bool, str]:
    """The same of a record as another backend might tell it."""
    proof, how = record(draws)
    policy = draws.choice(sorted(POLICIES))
    useful = valid(proof, USEFUL_PROOF_S, USEFUL_CHECKPOINT_S)
    return valid(proof), useful, stops(seen(proof, policy), policy), how


def before_admission(draws: random.Random) -> tuple[bool, bool, bool, str]:
    """The same where the record breaks after the policy has wished."""
    policy = draws.choice(sorted(POLICIES))
    good = Checkpoint(id="c1", run_id=RUN, at=NOW - 100.0, read_at=NOW - 5.0, verified=True)
    wishes = [one for one in POLICIES[policy].decide(seen(good, policy)) if isinstance(one, Decision)]
    proof, how = record(draws)
    admissions = admit(seen(proof, policy), Limits(), wishes)
    stopped = any(a.permitted and isinstance(a.decision.action, Preempt) for a in admissions)
    same = proof.id == "c1"  # another checkpoint than the one that was wished for proves nothing about it
    return valid(proof) and same, valid(proof) and same, stopped, f"late {how}"


def campaign(cases: int, seed: int, place: Path) -> Count:
    """Run so many cases; `wrong` and `missed` name the seed of each that should not be."""
    count = Count()
    for case in range(cases):
        draws = random.Random(seed * 1_000_003 + case)
        kind = case % 3
        where = place / str(case)
        if kind == 0:
            where.mkdir()
        result = on_disk(draws, where) if kind == 0 else as_told(draws) if kind == 1 else before_admission(draws)
        good, useful, stopped, how = result
        count.cases, count.valid, count.useful = count.cases + 1, count.valid + good, count.useful + useful
        count.stopped += stopped
        count.by[how.partition(":")[0] + (" valid" if good else " broken")] += 1
        if stopped and not good:
            count.wrong.append(f"case {case} of seed {seed}: {how}")
        if useful and not stopped:
            count.missed.append(f"case {case} of seed {seed}: {how}")
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        count = campaign(asked.cases, asked.seed, Path(folder))
    print(f"{count.cases} mutated checkpoints: {', '.join(f'{name} {n}' for name, n in sorted(count.by.items()))}")
    print(f"stopped {count.stopped}, of these without a valid proof {len(count.wrong)} (goal 0)")
    made = 1 - len(count.missed) / max(count.useful, 1)
    print(f"useful {count.useful}, of these still made {made:.4%} (goal >= 99 %)")
    for line in (*count.wrong[:10], *count.missed[:10]):
        print(f"  {line}")
    return 1 if count.wrong or made < 0.99 else 0


if __name__ == "__main__":
    sys.exit(main())
