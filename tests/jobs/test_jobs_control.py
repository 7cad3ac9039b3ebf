"""The job's side of the checkpoint protocol, and knobs."""

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from aiops.jobs.control import Control
from aiops.jobs.identity import Identity


@pytest.fixture
def control(tmp_path: Path):
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # whoever started the tests may ignore it
    yield Control(Identity("j", "run-1", "0", control=tmp_path))
    signal.signal(signal.SIGUSR1, before)


def ask(folder: Path, **fields: object) -> None:
    (folder / "checkpoint-request.json").write_text(json.dumps({"id": "c1", "run_id": "run-1", "at": 1.0, **fields}))


def test_request_and_acknowledgement(control: Control, tmp_path: Path) -> None:
    """Given a request, when the job saves and acknowledges, then the proof names every byte and the request is over."""
    assert control.requested() == ""
    ask(tmp_path)
    control.look()
    assert control.requested() == "c1"
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "weights").write_bytes(b"w" * 1000)
    (tmp_path / "ckpt" / "rng").write_bytes(b"r")
    control.acknowledge(tmp_path / "ckpt", step=12)
    control.look()
    assert control.requested() == ""
    proof = json.loads((tmp_path / "checkpoint-ack.json").read_text())
    assert {key: proof[key] for key in ("id", "run_id", "step", "complete")} == {
        "id": "c1", "run_id": "run-1", "step": 12, "complete": True,
    }  # fmt: skip
    assert [(f["path"], f["bytes"], f["sha256"]) for f in proof["manifest"]["files"]] == [
        (str(tmp_path / "ckpt" / name), size, hashlib.sha256(content).hexdigest())
        for name, size, content in (("rng", 1, b"r"), ("weights", 1000, b"w" * 1000))
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"id": "c1", "run_id": "run-0"}', "the request was for the run before the restart"),
        ('{"id": "c1"', "half a file"),
        ("[1]", "not an object"),
        ('{"id": 7, "run_id": "run-1"}', "an id is text"),
        ("[" * 100_000, "deep nesting must not raise in the job"),
    ],
)
def test_what_is_not_a_request_asks_nothing(control: Control, tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "checkpoint-request.json").write_text(content)
    control.look()
    assert control.requested() == "", why


def test_no_proof_without_files(control: Control, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for missing in ("nowhere", "empty"):
        with pytest.raises(OSError):
            control.acknowledge(tmp_path / missing, step=1)
    assert not (tmp_path / "checkpoint-ack.json").exists()


def test_the_signal_rings(control: Control, tmp_path: Path) -> None:
    """Given a job that said which signal rings, when it is sent, then the request is seen at once, and nothing dies."""
    control.requested()
    client = json.loads((tmp_path / "checkpoint-client.json").read_text())
    assert client == {"pid": os.getpid(), "signal": signal.SIGUSR1, "run_id": "run-1"}
    ask(tmp_path)
    os.kill(client["pid"], client["signal"])
    assert control.requested() == "c1"


def test_the_programs_own_handler_is_left_alone(control: Control, tmp_path: Path) -> None:
    signal.signal(signal.SIGUSR1, own := lambda *_: None)
    control.requested()
    assert signal.getsignal(signal.SIGUSR1) is own
    assert json.loads((tmp_path / "checkpoint-client.json").read_text())["signal"] == 0


@pytest.mark.parametrize(
    ("written", "value", "why"),
    [
        ('{"workers": 8.0}', 8, "set by the backend, in the default's type"),
        ('{"others": 8}', 4, "not set"),
        ('{"workers": true}', 4, "a boolean is no number"),
        ('{"workers": NaN}', 4, "nor is this one"),
        ('{"workers": "8"}', 4, "nor a text"),
        ("", 4, "empty file"),
    ],
)
def test_knobs(control: Control, tmp_path: Path, written: str, value: int, why: str) -> None:
    (tmp_path / "knobs.json").write_text(written)
    assert control.knob("workers", 4) == value, why
    assert type(control.knob("workers", 4)) is int


def test_without_a_control_directory_nothing_is_asked_or_written(tmp_path: Path) -> None:
    lonely = Control(Identity("j", "r", "0"))
    lonely.acknowledge(tmp_path / "nowhere", step=1)
    assert lonely.knob("workers", 4) == 4
