"""The in-process API server and a real one, asked the same: their answers must be equal in all that the in-process one says.

A real server says more (defaults, managed fields); what the in-process one leaves out a test cannot come to rely on. Identities
and times differ by nature. Bodies may be functions of what the same server answered before, for versions and uids.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import urllib3
from real_control_plane import TOKEN, RealApiServer

from aiops.testing.kubernetes import ApiServer

Body = dict[str, Any]
Wanted = Body | bytes | Callable[[dict[str, Body]], Body] | None
_OWN = frozenset({"uid", "resourceVersion", "creationTimestamp", "managedFields", "continue", "message", "lastTransitionTime"})
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one server said."""

    code: int
    retry_after: str
    body: Body

    def told(self) -> tuple[Any, ...]:
        """What must be equal of a refusal: code, reason, when to come again, whether a cause is named."""
        if self.body.get("kind") != "Status" or self.body.get("status") != "Failure":
            return (self.code,)
        return self.code, self.body.get("reason"), self.retry_after, bool(self.causes())

    def causes(self) -> frozenset[str]:
        """Reasons of the causes; a real server may name more of them than one."""
        rows = (self.body.get("details") or {}).get("causes") or ()
        return frozenset(row.get("reason", "") for row in rows)


@dataclass(eq=False)
class One:
    """One server, and its last answer for each path."""

    url: str
    token: str
    pool: urllib3.PoolManager
    seen: dict[str, Body] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any, content: str) -> Answer:
        wanted = body(self.seen) if callable(body) else body
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content}
        data = wanted if isinstance(wanted, bytes) else orjson.dumps(wanted) if wanted is not None else None
        found = self.pool.request(method, self.url + path, headers=headers, body=data, retries=False, timeout=10.0)
        lines = [orjson.loads(line) for line in found.data.splitlines() if line.strip()] if "watch=1" in path else []
        answer = Answer(
            found.status,
            found.headers.get("Retry-After", ""),
            {"events": lines} if lines else _parsed(found.data),
        )
        if answer.code < 300:
            self.seen[path.partition("?")[0]] = answer.body
        return answer


class TwoServers:
    """Ask both; the answer of the in-process one, once the real one's is the same."""

    def __init__(self, ours: ApiServer, real: RealApiServer) -> None:
        self._servers = ours, real
        plain = urllib3.PoolManager()
        trusting = urllib3.PoolManager(ca_certs=str(real.directory / "certs" / "apiserver.crt"))
        self.ours, self.real = One(ours.url, ours.token, plain), One(f"https://127.0.0.1:{real.port}", TOKEN, trusting)

    def ask(
        self, method: str, path: str, body: Body | bytes | Callable[[dict[str, Body]], Body] | None = None, content: str = ""
    ) -> Body:
        """The body; AssertionError where the two differ."""
        kind = content or (MERGE if method == "PATCH" else "application/json")
        ours, real = self.ours.ask(method, path, body, kind), self.real.ask(method, path, body, kind)
        assert ours.told() == real.told() and ours.causes() <= real.causes(), (method, path, ours, real)
        differs = list(_differences(ours.body, real.body, "")) if ours.code < 300 else []
        assert not differs, (method, path, differs)
        return ours

    def install(self, definition: Body) -> None:
        """Teach the real one a custom resource that the in-process one knows; once it is served."""
        name, spec = definition["metadata"]["name"], definition["spec"]
        root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        self.real.ask("POST", root, definition, "application/json")
        served = f"/apis/{spec['group']}/v1/{spec['names']['plural']}"
        deadline = time.monotonic() + 20.0
        while self.real.ask("GET", served, None, "").code != 200:
            assert time.monotonic() < deadline, name
            time.sleep(0.1)

    def forget(self) -> None:
        """Both lose the history of their objects."""
        ours, real = self._servers
        ours.store.forget()
        real.restart()

    def close(self) -> None:
        self.ours.pool.clear()
        self.real.pool.clear()


def _parsed(data: bytes) -> Body:
    try:
        return dict(orjson.loads(data))
    except orjson.JSONDecodeError:
        return {}  # "404 page not found", before any resource is looked for


def _differences(ours: Any, real: Any, where: str) -> Any:
    """Paths at which the in-process answer says another thing than the real one."""
    if isinstance(ours, dict) and isinstance(real, dict):
        for key, value in ours.items():
            if key not in _OWN and value not in (None, {}, [], ""):
                yield from _differences(value, real.get(key), f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(real, list) and len(ours) == len(real):
        for index, (one, other) in enumerate(zip(ours, real, strict=True)):
            yield from _differences(one, other, f"{where}[{index}]")
    elif ours != real:
        yield f"{where}: {ours!r} here, {real!r} there"
