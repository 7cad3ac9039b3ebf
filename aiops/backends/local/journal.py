"""The effect journal: one line when an action's effect begins, one when it is done; append-only, each durable on return.

It is what makes an admission id count once over restarts, and it is the effect log that `check` compares with the ledger.
A begun line without its done line is a question that only a look at the target can answer.
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from aiops.backends.local import disk
from aiops.errors import Unreadable


class Journal:
    """Append-only lines `{"id", "what": "begin" | "done", "at", "kind", "target"}` in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self.begun: set[str] = set()
        self.done: set[str] = set()

    def open(self) -> None:
        """Read what is there; a torn last line (a crash while writing) is cut off. Raises Unreadable if it is damaged."""
        if self._file is not None:
            return
        try:
            data = self._path.read_bytes() if self._path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            for line in whole.splitlines():
                row = orjson.loads(line)
                (self.begun if row["what"] == "begin" else self.done).add(row["id"])
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.ftruncate(file, len(whole))
            disk.sync(self._path.parent)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{self._path}: not a journal of effects ({type(error).__name__})") from None
        self._file = file

    def write(self, id: str, what: str, row: dict[str, object]) -> None:
        """Append durably. OSError means that nothing may be assumed."""
        assert self._file is not None, "open first"
        os.write(self._file, orjson.dumps({"id": id, "what": what, **row}, option=orjson.OPT_APPEND_NEWLINE))
        os.fdatasync(self._file)
        (self.begun if what == "begin" else self.done).add(id)

    def may_have_begun(self, id: str) -> bool:
        """False only where the journal was read and has no such line: a closed book proves nothing."""
        return self._file is None or id in self.begun

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def effects(path: Path) -> tuple[str, ...]:
    """Admission ids whose effect is recorded as done, in order: more than one line of an id would be a double effect."""
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return tuple(row["id"] for row in rows if row["what"] == "done")
