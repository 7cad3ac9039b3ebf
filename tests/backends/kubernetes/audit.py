"""Who asked a real API server for what, and with which answer: its own audit log, read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

_POLICY = (
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\nrules: [{level: Metadata}]\n"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was answered."""

    user: str
    group: str
    resource: str
    name: str
    verb: str
    namespace: str
    code: int
    path: str

    @property
    def row(self) -> tuple[str, str, str]:
        """API group, resource and verb, as RBAC rules name them."""
        return self.group, self.resource, self.verb


def flags(directory: Path) -> tuple[str, ...]:
    """What kube-apiserver is started with so that it keeps the log in `directory`."""
    policy = directory / "audit-policy.yaml"
    policy.write_text(_POLICY)
    return f"--audit-policy-file={policy}", f"--audit-log-path={directory / 'audit.log'}", "--audit-log-mode=blocking-strict"


def asked(directory: Path, user: str) -> Iterator[Asked]:
    """Requests of `user` for resources, oldest first."""
    for line in (directory / "audit.log").read_bytes().splitlines():
        row = orjson.loads(line)
        what = row.get("objectRef") or {}
        if row["user"].get("username") == user and what.get("resource"):
            sub = f"/{what['subresource']}" if what.get("subresource") else ""
            yield Asked(
                user, what.get("apiGroup", ""), what["resource"] + sub, what.get("name", ""), row["verb"],
                what.get("namespace", ""), int((row.get("responseStatus") or {}).get("code", 0)), row["requestURI"],
            )  # fmt: skip
