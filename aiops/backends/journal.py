"""The effect journal: one line when an action's effect begins, one when it is done; append-only, each durable on return.

A backend may note `sent` between them, right before the one command after which an effect can no longer be taken back.

It is what makes an admission id count once over restarts, and it is the effect log that `check` compares with the ledger.
A begun line without its done line is a question that only a look at the target can answer. When it has grown to twice what
it must remember it is replaced, whole or not at all, by what it says about the newest ids.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import orjson

from aiops.backends import disk
from aiops.errors import Unreadable

_KEPT = 20_000  # ids; only an open ledger entry is ever asked again, each target has one, and it is closed within a day


class Journal:
    """Lines `{"id", "what": "begin" | "sent" | "done", ...}` in one file; `kept` is how many ids it remembers."""

    def __init__(self, path: Path, failpoint: Callable[[str], None] = lambda point: None, kept: int = _KEPT) -> None:
        self._path = path
        self._failpoint = failpoint
        self._kept = kept
        self._file: int | None = None
        self.begun: dict[str, None] = {}  # in order
        self.done: set[str] = set()

    def open(self) -> None:
        """Read what is there; a torn last line (a crash while writing) is cut off. Raises Unreadable if it is damaged."""
        if self._file is not None:
            return
        try:
            data = self._path.read_bytes() if self._path.exists() else b""
            whole = data[: data.rfind(b"\n") + 1]
            self.begun, self.done = {}, set()
            for line in whole.splitlines():
                row = orjson.loads(line)
                self._note(row["id"], row["what"])
            self._file = self._appending(len(whole))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"{self._path}: not a journal of effects ({type(error).__name__})") from None

    def _note(self, id: str, what: str) -> None:
        self.begun.setdefault(id)
        if what == "done":
            self.done.add(id)

    def _appending(self, length: int) -> int:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.ftruncate(file, length)
        disk.sync(self._path.parent)
        return file

    def write(self, id: str, what: str, row: dict[str, object]) -> None:
        """Append durably. OSError means that nothing may be assumed."""
        assert self._file is not None, "open first"
        os.write(self._file, orjson.dumps({"id": id, "what": what, **row}, option=orjson.OPT_APPEND_NEWLINE))
        os.fdatasync(self._file)
        self._note(id, what)
        if what == "done" and len(self.begun) > 2 * self._kept:
            self._compact()

    def _compact(self) -> None:
        """Forget all but the newest ids. A crash leaves the old file or the new one, never a part."""
        newest = dict.fromkeys(list(self.begun)[-self._kept :])
        lines = self._path.read_bytes().splitlines(keepends=True)
        data = b"".join(line for line in lines if orjson.loads(line)["id"] in newest)
        self._failpoint("before_compact")
        self.close()  # whatever fails from here on, the next call reads the file that is there
        disk.replace(self._path, data)
        self._failpoint("after_compact")
        self._file = self._appending(len(data))
        self.begun, self.done = newest, self.done & newest.keys()

    def lines(self, id: str) -> tuple[dict[str, object], ...]:
        """What was written about `id`, oldest first. Reads the whole file: for the rare second look."""
        rows = map(orjson.loads, self._path.read_bytes().splitlines()) if id in self.begun else ()
        return tuple(row for row in rows if row["id"] == id)

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
