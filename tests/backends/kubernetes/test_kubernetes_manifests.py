"""The plain manifests and the rendered chart, on a real API server with strict validation: what it would refuse, fails here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chart import render
from crds import SERVICE_MONITOR
from manifests import apply, documents
from real_control_plane import RealApiServer, missing

from aiops.backends.kubernetes.connection import Connection, Refused
from aiops.backends.kubernetes.declare import read
from aiops.errors import Temporary

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=missing())]
_DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = _DEPLOY / "helm" / "aiops"
_ALL = {"scale": True, "jobs": True, "evict": True, "nodes": True, "kueue": True, "promises": True}
_EVERYTHING: dict[str, Any] = {
    "rbac": {"act": _ALL},
    "serviceMonitor": {"enabled": True, "additionalLabels": {"release": "prom"}, "credentials": {"name": "s", "key": "k"}},
    "networkPolicy": {
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": 9090, "protocol": "TCP"}]}],
    },
    "persistence": {"storageClass": "fast"},
    "imagePullSecrets": [{"name": "pull"}],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}
    ]}}},
    "podAnnotations": {"x": "y"},
    "extraEnv": [{"name": "A", "value": "1"}],
    "serviceAccount": {"name": "own", "annotations": {"k": "v"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    directory = tmp_path_factory.mktemp("real")
    with RealApiServer(directory) as server:
        rest = Connection(read({"kubeconfig": str(server.kubeconfig(directory / "kubeconfig"))}, "test"))
        apply(rest, [SERVICE_MONITOR])
        rest.create("/api/v1/namespaces", {"metadata": {"name": "ops"}})
        yield rest
        rest.close()


def test_the_plain_manifests_are_taken_whole(rest: Connection) -> None:
    rows = documents(*(_DEPLOY / "kubernetes" / name for name in ("aiops.yaml", "act.yaml", "kueue.yaml")))
    made = apply(rest, rows)
    assert [row["kind"] for row in made] == [row["kind"] for row in rows]
    assert apply(rest, rows)[0]["metadata"]["uid"] == made[0]["metadata"]["uid"], "a second time changes nothing"


@pytest.mark.parametrize("values", [{}, _EVERYTHING, {"persistence": {"existingClaim": "mine"}}])
def test_the_rendered_chart_is_taken_whole(rest: Connection, values: dict[str, Any]) -> None:
    rows = render(CHART, values, release="gpu", namespace="ops")
    assert len(apply(rest, rows, dry_run=True)) == len(rows) > 5


def test_an_unknown_field_would_have_been_refused(rest: Connection) -> None:
    row = render(CHART, {}, release="gpu", namespace="ops")[0]
    with pytest.raises(Temporary, match="colour"):
        apply(rest, [{**row, "colour": "red"}], dry_run=True)


def test_what_runs_passes_the_restricted_level_of_pod_security(rest: Connection) -> None:
    """Its namespace enforces it: the pod of the Deployment, created directly, must be admitted there."""
    rows = documents(_DEPLOY / "kubernetes" / "aiops.yaml")
    apply(rest, rows)
    template = next(row for row in rows if row["kind"] == "Deployment")["spec"]["template"]
    pod = {"metadata": {"name": "direct", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    assert rest.create("/api/v1/namespaces/aiops/pods", pod, dry_run=True)["metadata"]["name"] == "direct"
    root = {**pod, "spec": {**template["spec"], "securityContext": {"runAsUser": 0}}}
    with pytest.raises(Refused) as refused:
        rest.create("/api/v1/namespaces/aiops/pods", root, dry_run=True)
    assert refused.value.code == 403 and "restricted" in refused.value.message
