"""The chart, rendered: it grants what the plain manifests grant, and its switches do what values.yaml says."""

from pathlib import Path
from typing import Any

import pytest
from chart import render
from ruamel.yaml import YAML

from aiops.backends.kubernetes.declare import read

_DEPLOY = Path(__file__).parents[3] / "deploy"
CHART = _DEPLOY / "helm" / "aiops"
_ALL = {"scale": True, "jobs": True, "evict": True, "nodes": True, "kueue": True, "promises": True}


def rules(rows: list[dict[str, Any]], kind: str) -> set[tuple[str, str, str, tuple[str, ...]]]:
    found = [rule for row in rows if row["kind"] == kind for rule in row["rules"]]
    return {
        (g, r, v, tuple(rule.get("resourceNames", ())))
        for rule in found
        for g in rule["apiGroups"]
        for r in rule["resources"]
        for v in rule["verbs"]
    }


def plain(*names: str) -> list[dict[str, Any]]:
    yaml = YAML(typ="safe", pure=True)
    return [row for name in names for row in yaml.load_all((_DEPLOY / "kubernetes" / name).read_text())]


def one(rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(row for row in rows if row["kind"] == kind)


@pytest.mark.parametrize("kind", ["ClusterRole", "Role"])
def test_the_chart_grants_what_the_manifests_grant(kind: str) -> None:
    assert rules(render(CHART, {}), kind) == rules(plain("aiops.yaml"), kind)
    assert rules(render(CHART, {"rbac": {"act": _ALL}}), kind) == rules(plain("aiops.yaml", "act.yaml", "kueue.yaml"), kind)


def test_priority_classes_come_with_promises_only() -> None:
    def classes(rows: list[dict[str, Any]]) -> dict[str, tuple[int, str]]:
        return {r["metadata"]["name"]: (r["value"], r["preemptionPolicy"]) for r in rows if r["kind"] == "PriorityClass"}

    assert classes(render(CHART, {})) == {}
    assert classes(render(CHART, {"rbac": {"act": _ALL}})) == classes(plain("act.yaml")) != {}


def test_by_default_it_only_observes_as_an_unprivileged_user_behind_a_network_policy() -> None:
    rows = render(CHART, {}, release="gpu", namespace="ops")
    assert {verb for _, _, verb, _ in rules(rows, "ClusterRole") | rules(rows, "Role")} == {"get", "list", "watch"}
    spec = one(rows, "Deployment")["spec"]["template"]["spec"]
    box = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] and box["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert (box["livenessProbe"]["httpGet"]["path"], box["readinessProbe"]["httpGet"]["path"]) == ("/-/healthy", "/-/ready")
    assert one(rows, "NetworkPolicy")["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert {row["metadata"].get("namespace", "ops") for row in rows} == {"ops"}
    assert "ServiceMonitor" not in {row["kind"] for row in rows}
    assert {row["metadata"]["name"] for row in rows if row["kind"] == "Deployment"} == {"gpu"}


def test_its_configuration_is_one_that_the_backend_takes() -> None:
    section = YAML(typ="safe", pure=True).load(one(render(CHART, {}), "ConfigMap")["data"]["aiops.yaml"])
    assert read(section["backend"]["kubernetes"], "chart").namespaces == ()


def test_switches_that_are_off_by_default_render_too() -> None:
    values = {
        "serviceMonitor": {"enabled": True, "additionalLabels": {"release": "prom"}, "credentials": {"name": "s", "key": "k"}},
        "networkPolicy": {
            "ingressFrom": [{"namespaceSelector": {}}],
            "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": 9090}]}],
        },
        "persistence": {"storageClass": "fast"},
        "imagePullSecrets": [{"name": "pull"}],
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"x": "y"},
        "extraEnv": [{"name": "A", "value": "1"}],
        "serviceAccount": {"name": "own", "annotations": {"k": "v"}},
    }
    rows = render(CHART, values)
    monitor, pod = one(rows, "ServiceMonitor"), one(rows, "Deployment")["spec"]["template"]
    assert monitor["metadata"]["labels"]["release"] == "prom"
    assert monitor["spec"]["endpoints"][0]["authorization"]["credentials"] == {"name": "s", "key": "k"}
    assert pod["spec"]["serviceAccountName"] == "own" and pod["metadata"]["annotations"]["x"] == "y"
    assert pod["spec"]["tolerations"] == [{"operator": "Exists"}] and pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert len(one(rows, "NetworkPolicy")["spec"]["egress"]) == 3
    assert one(rows, "PersistentVolumeClaim")["spec"]["storageClassName"] == "fast"


def test_an_existing_claim_is_used_and_no_new_one_made() -> None:
    rows = render(CHART, {"persistence": {"existingClaim": "mine"}})
    volumes = one(rows, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert "PersistentVolumeClaim" not in {row["kind"] for row in rows}
    assert {"claimName": "mine"} in [row.get("persistentVolumeClaim") for row in volumes]


def test_permissions_can_be_left_to_somebody_else() -> None:
    rows = render(CHART, {"rbac": {"create": False}, "serviceAccount": {"create": False}})
    assert not {"ClusterRole", "Role", "ServiceAccount"} & {row["kind"] for row in rows}
