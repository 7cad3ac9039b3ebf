"""A move that is cut off leaves its run held: whoever leads next lets it go, and nothing that somebody else holds."""

from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from slurm_stage import SlurmStage
from test_slurm_faults import wish
from test_slurm_restart import RUN, STOP, Fake, backend

from aiops.action import Effect, Outcome
from aiops.backends.slurm import marks
from aiops.ports import Finishes
from aiops.testing.backend import ReplyLost, admit

MOVES = marks.moves("ticket 12 aiops=a1@0", 0, ("gpu3",))
HELD = {**RUN, "State": "PENDING", "Reason": "JobHeldUser", "RestartCnt": "1", "SubmitTime": "2000", "PriorityLong": "0"}


def finished(fake: Fake, directory: Path, *journal: str) -> tuple[str, ...]:
    """What a daemon ends of what it sees, its journal holding these lines about the move."""
    slurm = backend(fake, directory, None)
    lines = (orjson.dumps({"id": "a1", "what": what, "booted_at": 500.0}) + b"\n" for what in journal)
    (directory / "effects.jsonl").write_bytes(b"".join(lines))
    assert isinstance(slurm, Finishes)
    slurm.observe(3000.0)
    return slurm.finish(3000.0)


@pytest.mark.parametrize("journal", [(), ("begin", "sent")], ids=["another daemon's", "its own"])
def test_a_run_that_a_move_left_held_is_let_go_to_its_new_nodes_once(tmp_path: Path, journal: tuple[str, ...]) -> None:
    fake = Fake({**HELD, "admin_comment": MOVES})
    assert finished(fake, tmp_path, *journal) == ("move of job 7 to gpu3",)
    assert fake.wrote == ["update JobId=7 ReqNodeList=gpu3", "release 7", "update JobId=7 AdminComment=ticket 12 aiops=a1@0"]
    assert finished(fake, tmp_path) == () and len(fake.wrote) == 3
    assert backend(fake, tmp_path, None).probe(admit(STOP["migrate"], id="a1"), 3001.0) is Effect.PRESENT


def test_where_its_new_nodes_are_gone_it_is_let_go_without_them(tmp_path: Path) -> None:
    fake = Fake({**HELD, "admin_comment": marks.moves("aiops=a1@0", 0, ("gone",))})
    assert "not in service" in finished(fake, tmp_path)[0] and fake.wrote[:2] == ["update JobId=7 ReqNodeList=", "release 7"]


@pytest.mark.parametrize(
    ("changes", "journal", "why"),
    [
        ({"RestartCnt": "0", "State": "RUNNING"}, (), "never stopped: a hold that comes later is somebody's own"),
        ({}, ("begin",), "our journal knows that its requeue was never sent: a person requeued and holds it"),
        ({"RestartCnt": "2"}, (), "stopped once more since, by others"),
        ({"Reason": "Priority", "PriorityLong": "9"}, (), "let go already"),
    ],
)
def test_nothing_else_is_let_go_and_the_mark_of_the_move_goes(
    tmp_path: Path, changes: dict[str, str], journal: tuple[str, ...], why: str
) -> None:
    fake = Fake({**HELD, "admin_comment": MOVES, **changes})
    assert finished(fake, tmp_path, *journal) == (), why
    assert fake.wrote == ["update JobId=7 AdminComment=ticket 12 aiops=a1@0"], why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"admin_comment": "ticket 12 aiops=a1@0"}, "a hold without a move is a person's"),
        ({"admin_comment": f"{MOVES} and more"}, "a person wrote behind it"),
        ({"State": "COMPLETING"}, "still ending: looked at again"),
        ({"State": "CANCELLED"}, "over, and Slurm takes no comment on it"),
    ],
)
def test_what_is_no_half_move_is_left_alone(tmp_path: Path, changes: dict[str, str], why: str) -> None:
    fake = Fake({**HELD, "admin_comment": MOVES, **changes})
    assert finished(fake, tmp_path) == () and fake.wrote == [], why


def test_a_repeat_does_not_touch_a_job_that_came_by_the_same_id(tmp_path: Path) -> None:
    """Its id was used again while the move was open, and the new job waits: it was taken for the moved run once."""
    fake = Fake({**RUN, "State": "PENDING", "SubmitTime": "2500"})
    slurm = backend(fake, tmp_path, 900.0)
    assert slurm.apply(admit(STOP["migrate"], id="a1"), 3000.0).outcome is Outcome.STALE and fake.wrote == []


def test_a_repeat_does_not_let_go_what_a_person_requeued_and_holds(tmp_path: Path) -> None:
    fake = Fake({**HELD, "admin_comment": MOVES})
    slurm = backend(fake, tmp_path, 900.0)
    (tmp_path / "effects.jsonl").write_bytes(orjson.dumps({"id": "a1", "what": "begin", "booted_at": 900.0}) + b"\n")
    assert slurm.apply(admit(STOP["migrate"], id="a1"), 3000.0).outcome is Outcome.STALE and fake.wrote == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"admin_comment": "aiops=a1@0"}, "the move was ended, only its answer was lost: the hold that is there is a person's"),
        ({"admin_comment": MOVES, "RestartCnt": "2"}, "stopped once more since, by others"),
    ],
)
def test_a_repeat_goes_on_with_nothing_but_its_own_half_move(tmp_path: Path, changes: dict[str, str], why: str) -> None:
    fake = Fake({**HELD, **changes})
    slurm = backend(fake, tmp_path, 900.0)
    assert slurm.probe(admit(STOP["migrate"], id="a1"), 3000.0) is Effect.ABSENT
    assert slurm.apply(admit(STOP["migrate"], id="a1"), 3000.0).outcome is Outcome.STALE and fake.wrote == [], why


def test_a_whole_move_leaves_no_mark_of_a_half_one(tmp_path: Path) -> None:
    fake = Fake({**RUN, "State": "FAILED", "exit_code": "15"})
    slurm = backend(fake, tmp_path, 500.0)
    assert slurm.apply(admit(STOP["migrate"], id="a1"), 3000.0).outcome is Outcome.DONE
    assert any("aiops-moves=0:gpu3" in text for text in fake.wrote), "it was there while the run was held"
    assert fake.job is not None and fake.job["admin_comment"] == "aiops=a1@0"


def test_a_repeat_pins_no_run_to_nodes_that_went_out_of_service(tmp_path: Path) -> None:
    fake = Fake({**HELD, "admin_comment": marks.moves("aiops=a1@0", 0, ("gpu3",))}, nodes=("gpu1", "gpu2"))
    slurm = backend(fake, tmp_path, None)
    assert slurm.apply(admit(STOP["migrate"], id="a1"), 3000.0).outcome is Outcome.FAILED
    assert "update JobId=7 ReqNodeList=" in fake.wrote and "release 7" in fake.wrote


@pytest.mark.real
@pytest.mark.parametrize("own", [True, False], ids=["the same host", "another host"])
@pytest.mark.parametrize("point", ["after_mark", "after_effect", "after_place", "before_done"])
def test_a_real_run_is_not_left_held(slurm: SlurmStage, point: str, own: bool) -> None:
    """The daemon dies in the middle of a move; the next one only looks, once, and never sends the action again."""
    action, job = wish(slurm, "migrate")
    seen = [0]

    def dies(argv: Sequence[str]) -> None:
        seen[0] += argv[:2] == ("scontrol", "--") and argv[2] == "requeuehold"
        slurm.dies_at = point if point != "after_effect" or seen[0] else ""

    slurm.before = dies
    with pytest.raises(ReplyLost):
        slurm.backend.apply(admit(action), slurm.now())
    slurm.before = lambda argv: None
    slurm.dies_at = ""
    if own:
        slurm.restart()
    next_one = slurm if own else SlurmStage(slurm.server)
    after = next_one.until(lambda c: next_one.backend.finish(next_one.now()) is not None and settled(next_one, job.id))
    assert after.jobs
    row = slurm.server.job(job.id)
    assert row["Restarts"] == ("0" if point == "after_mark" else "1") and row["Priority"] != "0"
    assert "aiops-moves" not in slurm.server.run("scontrol", "-o", "show", "job", job.id).stdout
    told = next_one.backend.probe(admit(action), next_one.now())
    assert told is (Effect.ABSENT if point == "after_mark" else Effect.PRESENT)
    if not own:
        next_one.backend.close()


def settled(stage: SlurmStage, job: str) -> bool:
    return "aiops-moves" not in stage.server.run("scontrol", "-o", "show", "job", job).stdout
