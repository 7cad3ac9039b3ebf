"""The proof of a checkpoint: right, wrong and not read yet are three answers."""

import hashlib
import json
import threading
from pathlib import Path

import pytest

from aiops.backends import checkpoint
from aiops.backends.checkpoint import Proofs

NOW = 1e9


def acknowledge(control: Path, digest: str) -> None:
    """What a run says of its one file."""
    file = control / "weights"
    file.write_bytes(b"weights")
    rows = [{"path": str(file), "bytes": 7, "sha256": digest}]
    ack = {"id": "c1", "run_id": "r1", "at": NOW - 10.0, "manifest": {"files": rows}, "complete": True}
    (control / "checkpoint-ack.json").write_text(json.dumps(ack))


@pytest.mark.parametrize("digest", [hashlib.sha256(b"weights").hexdigest(), "0" * 64], ids=["right", "wrong"])
def test_what_is_still_being_read_is_told_apart_from_what_is_wrong(
    digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, plain = threading.Event(), checkpoint._sha256

    def gated(path: str) -> str:
        slow.wait(60.0)
        return plain(path)

    monkeypatch.setattr(checkpoint, "_sha256", gated)
    acknowledge(tmp_path, digest)
    proofs = Proofs()
    first = proofs.look(tmp_path, "r1", NOW, patience_s=0.0)
    assert first is not None and (first.verified, first.reading) == (False, True)
    slow.set()
    then = proofs.look(tmp_path, "r1", NOW, patience_s=60.0)
    assert then is not None and (then.verified, then.reading) == (digest != "0" * 64, False)
    proofs.close()


def test_a_file_that_is_not_there_is_wrong_at_once(tmp_path: Path) -> None:
    acknowledge(tmp_path, "0" * 64)
    (tmp_path / "weights").unlink()
    found = Proofs().look(tmp_path, "r1", NOW)
    assert found is not None and (found.verified, found.reading) == (False, False)
