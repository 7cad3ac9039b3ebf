"""One resource, mirrored: a paged list, then watches from its version for ever, a new list after 410 Gone.

What arrives is parsed into small records at once, so that memory holds what the picture needs and nothing else. A mirror
proves its age: each watch is short and begins with the server's answer, so contact older than `max_age` means that the
picture may be old, and `rows` refuses to give it. One daemon thread per mirror; nobody else writes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from aiops.backends.kubernetes.connection import Connection, Object, Refused
from aiops.clock import SystemClock
from aiops.errors import Temporary, Unreadable

_PAGE = "500"  # what kubectl and client-go ask for
_PAUSE_S = (0.05, 5.0)  # first and longest pause before another try
_ABSENT_S = 60.0  # how soon to look again for a resource that the server does not have (a CRD installed later)


class Seen(Protocol):
    """What a mirror needs to know of a parsed object."""

    @property
    def uid(self) -> str:
        """Identity."""
        ...


T = TypeVar("T", bound=Seen)


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """Where a mirror reads, and how it parses. `optional`: a server without this resource has none of it.

    `find` asks for the path before each list, where it depends on the version that is served; it raises Temporary.
    """

    path: str
    parse: Callable[[Object], T]
    optional: bool = False
    find: Callable[[], str] | None = None


class Mirror(Generic[T]):
    """The objects of one collection, current to within `max_age_s`."""

    def __init__(self, connection: Connection, source: Source[T], window_s: float, max_age_s: float) -> None:
        self.source, self.path = source, source.path
        self._connection, self._window_s, self._max_age_s = connection, window_s, max_age_s
        self._changed = threading.Condition()
        self._objects: dict[str, T] = {}
        self._version = ""
        self._contact: float | None = None
        self._problem = "not yet listed"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror {source.path}", daemon=True)
        self.lists = 0

    def start(self) -> None:
        """Begin to mirror, in the background."""
        self._thread.start()

    def close(self) -> None:
        """End; an open watch is left to its own time-out, which comes within `watch` seconds."""
        self._ended.set()

    def rows(self, version: str, deadline: float) -> tuple[T, ...]:
        """All objects, at least as new as `version` ('' if any will do), waiting for that until the monotonic `deadline`.

        Raises Unreadable rather than give an old picture.
        """
        with self._changed:
            while not (self._fresh() and reaches(self._version, version)):
                left = deadline - SystemClock().elapsed()
                if left <= 0:
                    raise Unreadable(f"{self.path}: {self._problem or 'no contact or behind its own writes'}")
                self._changed.wait(left)
            return tuple(self._objects.values())

    def _fresh(self) -> bool:
        return self._contact is not None and SystemClock().elapsed() - self._contact <= self._max_age_s

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = _PAUSE_S[0]
        while not self._ended.is_set():
            try:
                if not self._version:
                    self._list()
                self._watch()
                pause = _PAUSE_S[0]
            except Temporary as error:
                pause = self._failed(error, pause)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._note(f"an object that cannot be parsed: {type(error).__name__}: {error}", drop=True)
                pause = min(pause * 2, _PAUSE_S[1])
            if self._ended.wait(pause):
                return

    def _failed(self, error: Temporary, pause: float) -> float:
        """Remember why; the pause before the next try. 410 asks for a new list, 404 of an optional resource is an answer."""
        moved = isinstance(error, Refused) and error.code == 404 and self.source.find is not None and bool(self._version)
        if moved or (isinstance(error, Refused) and error.code == 410):  # or another version of it is served by now
            with self._changed:
                self._version = ""  # the picture stays readable until it is too old: a new list follows at once
            return _PAUSE_S[0]
        if isinstance(error, Refused) and error.code == 404 and self.source.optional:
            self._replace({}, "0")
            self._absent()
            return _PAUSE_S[0]
        self._note(str(error), drop=isinstance(error, Refused) and error.code in (401, 403))
        return min(pause * 2, _PAUSE_S[1])

    def _absent(self) -> None:
        """Stay readable as empty, and look again after a while."""
        until = SystemClock().elapsed() + _ABSENT_S
        while not self._ended.wait(min(1.0, self._max_age_s / 2)) and SystemClock().elapsed() < until:
            self._touch("0")
        self._version = ""

    def _list(self) -> None:
        found: dict[str, T] = {}
        query = {"limit": _PAGE}
        self.path = self.source.path if self.source.find is None else self.source.find()
        while True:
            page = self._connection.page(self.path, query)
            for row in page.objects():
                seen = self.source.parse(row)
                found[seen.uid] = seen
            if not page.next:
                break
            query = {"limit": _PAGE, "continue": page.next}
        self.lists += 1
        self._replace(found, page.version)

    def _watch(self) -> None:
        events = self._connection.watch(self.path, self._version, self._window_s)
        self._touch(self._version)
        for event in events:
            if self._ended.is_set():
                return
            self._event(event["type"], event["object"])
        self._touch(self._version)

    def _event(self, kind: str, found: Object) -> None:
        match kind:
            case "ADDED" | "MODIFIED":
                seen = self.source.parse(found)
                with self._changed:
                    self._objects[seen.uid] = seen
            case "DELETED":
                with self._changed:
                    self._objects.pop(found["metadata"]["uid"], None)
            case "BOOKMARK":
                pass
            case _:  # ERROR carries a Status; 410 when the version has left the server's window
                raise Refused(int(found.get("code", 500)), str(found.get("reason", "")), str(found.get("message", "")))
        self._touch(found["metadata"]["resourceVersion"])

    def _replace(self, found: dict[str, T], version: str) -> None:
        with self._changed:
            self._objects = found
        self._touch(version)

    def _touch(self, version: str) -> None:
        with self._changed:
            self._version, self._contact, self._problem = version, SystemClock().elapsed(), ""
            self._changed.notify_all()

    def _note(self, problem: str, drop: bool) -> None:
        with self._changed:
            self._problem = problem
            if drop:  # a missing permission does not heal by waiting: say so now, not when the picture is old
                self._contact, self._version = None, ""
            self._changed.notify_all()


def reaches(version: str, wanted: str) -> bool:
    """Whether a mirror at `version` has seen the write `wanted`; versions grow and compare as numbers (KEP-5504)."""
    return not wanted or (version.isdigit() and wanted.isdigit() and int(version) >= int(wanted))
