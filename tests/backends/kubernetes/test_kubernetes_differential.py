"""The same requests to the in-process API server and to a real one, row by row: equal codes, reasons, causes and fields.

Both servers run alone, without controllers, kubelets or a scheduler: what is compared is what an API server itself answers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from crds import LEADER_WORKER_SET, PYTORCH_JOB
from kubernetes_stage import budget, deployment, job, node, pod_template
from real_control_plane import RealApiServer, missing
from two_servers import STRATEGIC, Body, TwoServers

from aiops.testing.kubernetes import ApiServer

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(missing()), reason=missing())]
SETS, DEPLOYMENTS = "/apis/apps/v1/namespaces/default/statefulsets", "/apis/apps/v1/namespaces/default/deployments"
JOBS, PODS, NODES = "/apis/batch/v1/namespaces/default/jobs", "/api/v1/namespaces/default/pods", "/api/v1/nodes"
BUDGETS, MAPS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets", "/api/v1/namespaces/default/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
WORKERS = "/apis/leaderworkerset.x-k8s.io/v1/namespaces/default/leaderworkersets"
TORCH = "/apis/kubeflow.org/v1/namespaces/default/pytorchjobs"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoServers]:
    with ApiServer(controllers=False) as ours, RealApiServer(tmp_path_factory.mktemp("real")) as real:
        both = TwoServers(ours, real)
        for body in (LEADER_WORKER_SET, PYTORCH_JOB):
            both.install(body)
        yield both
        both.close()


def stamped(path: str, **rest: Any) -> Callable[[dict[str, Body]], Body]:
    """A patch that carries the uid and version of what was last seen at `path`."""

    def body(seen: dict[str, Body]) -> Body:
        meta = seen[path]["metadata"]
        return {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], **rest.get("metadata", {})}} | {
            key: value for key, value in rest.items() if key != "metadata"
        }

    return body


def test_creating(pair: TwoServers) -> None:
    assert pair.ask("POST", DEPLOYMENTS, deployment("made")).code == 201
    assert pair.ask("POST", DEPLOYMENTS, deployment("made")).code == 409
    assert pair.ask("POST", f"{DEPLOYMENTS}?dryRun=All", deployment("dry")).code == 201
    assert pair.ask("GET", f"{DEPLOYMENTS}/dry").code == 404
    assert pair.ask("POST", DEPLOYMENTS, {**deployment("odd"), "spec": {**deployment()["spec"], "replicas": -1}}).code == 422
    assert pair.ask("POST", DEPLOYMENTS, {**deployment("odd"), "spec": {**deployment()["spec"], "replicas": "x"}}).code == 400
    assert pair.ask("POST", DEPLOYMENTS, {"metadata": {}, "spec": deployment()["spec"]}).code == 422
    assert pair.ask("POST", DEPLOYMENTS, b"{not json").code == 400
    assert pair.ask("POST", DEPLOYMENTS.replace("default", "nowhere"), deployment("x")).code == 404
    assert pair.ask("POST", "/apis/apps/v1/namespaces/default/nothings", {}).code == 404
    assert pair.ask("POST", f"{DEPLOYMENTS}?dryRun=Some", deployment("y")).code == 422


def test_compare_and_set(pair: TwoServers) -> None:
    web = f"{DEPLOYMENTS}/web"
    pair.ask("POST", DEPLOYMENTS, deployment())
    pair.ask("GET", web)
    assert pair.ask("PATCH", f"{web}?dryRun=All", {"spec": {"replicas": 3}}).body["spec"]["replicas"] == 3
    first = stamped(web, spec={"replicas": 3}, metadata={"annotations": {"aiops.io/last-actions": "a1"}})
    old = {one: dict(one.seen[web]) for one in (pair.ours, pair.real)}
    assert pair.ask("PATCH", web, first).body["metadata"]["generation"] == 2
    for one, before in old.items():
        one.seen["old"] = before
    assert pair.ask("PATCH", web, stamped("old", spec={"replicas": 4})).code == 409
    assert pair.ask("PATCH", web, {"metadata": {"uid": "another"}, "spec": {"replicas": 4}}).code == 422
    assert pair.ask("PATCH", web, {"metadata": {"labels": {"x": "y"}}}).body["metadata"]["generation"] == 2
    assert pair.ask("PATCH", web, {"metadata": {"annotations": {"x": "y"}}}).body["metadata"]["generation"] == 3, (
        "of a Deployment"
    )
    assert pair.ask("PATCH", web, {"metadata": {"annotations": {"x": None}}}).code == 200
    assert pair.ask("PATCH", web, {"spec": {"replicas": None}}).code == 200
    assert pair.ask("PATCH", web, {"spec": {"replicas": -1}}).code == 422
    assert pair.ask("PATCH", web, {"spec": {"replicas": "many"}}).code == 422
    assert pair.ask("PATCH", f"{DEPLOYMENTS}/gone", {"spec": {"replicas": 1}}).code == 404
    assert pair.ask("PATCH", web, {}, "text/plain").code == 415
    assert pair.ask("PATCH", web, b"[]").code == 400
    assert pair.ask("PUT", web, stamped("old", **{k: deployment()[k] for k in ("spec",)}, metadata={"name": "web"})).code == 409


def test_strategic_merge_knows_its_keys_and_no_custom_resource(pair: TwoServers) -> None:
    pair.ask("POST", DEPLOYMENTS, deployment("parts"))
    side = {"name": "side", "image": "other"}
    patch = {"spec": {"template": {"spec": {"containers": [side]}}}}
    names = pair.ask("PATCH", f"{DEPLOYMENTS}/parts", patch, STRATEGIC).body["spec"]["template"]["spec"]["containers"]
    assert sorted(row["name"] for row in names) == ["main", "side"]
    gone = {"spec": {"template": {"spec": {"containers": [{"name": "side", "$patch": "delete"}]}}}}
    assert len(pair.ask("PATCH", f"{DEPLOYMENTS}/parts", gone, STRATEGIC).body["spec"]["template"]["spec"]["containers"]) == 1
    pair.ask("POST", WORKERS, worker_set("strategic"))
    assert pair.ask("PATCH", f"{WORKERS}/strategic", {"spec": {"replicas": 2}}, STRATEGIC).code == 415


def worker_set(name: str) -> Body:
    spec = {"replicas": 1, "leaderWorkerTemplate": {"size": 2, "workerTemplate": pod_template(1, app=name)}}
    return {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": {"name": name}, "spec": spec}


def torch_job(name: str) -> Body:
    spec = {"pytorchReplicaSpecs": {"Worker": {"replicas": 2}}}
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": name}, "spec": spec}


def stateful_set(name: str) -> Body:
    return {"metadata": {"name": name}, "spec": {**deployment(name)["spec"], "serviceName": name}}


@pytest.mark.parametrize(
    ("path", "made"),
    [
        (DEPLOYMENTS, deployment("scaled")),
        (SETS, stateful_set("scaled")),
        (WORKERS, worker_set("scaled")),
        (TORCH, torch_job("scaled")),
    ],
)
def test_the_scale_subresource(pair: TwoServers, path: str, made: Body) -> None:
    one = f"{path}/scaled"
    assert pair.ask("POST", path, made).code == 201
    before = pair.ask("GET", f"{one}/scale").body
    assert before["kind"] == "Scale" and before["spec"]["replicas"] in (1, 2)
    for server in (pair.ours, pair.real):
        server.seen["old"] = server.seen[f"{one}/scale"]
    assert pair.ask("PATCH", f"{one}/scale?dryRun=All", {"spec": {"replicas": 5}}).body["spec"]["replicas"] == 5
    assert pair.ask("PATCH", f"{one}/scale", stamped("old", spec={"replicas": 5})).body["spec"]["replicas"] == 5
    assert pair.ask("GET", one).body["metadata"]["generation"] == 2
    assert pair.ask("PATCH", f"{one}/scale", stamped("old", spec={"replicas": 6})).code == 409
    assert pair.ask("PATCH", f"{one}/scale", {"spec": {"replicas": -1}}).code == 422
    assert pair.ask("GET", f"{path}/gone/scale").code == 404
    assert pair.ask("PATCH", f"{one}/scale", {"spec": {"replicas": 0}}).body["spec"].get("replicas", 0) == 0
    status = {"status": {"replicas": 3, "readyReplicas": 2}, "spec": {"replicas": 9}}
    assert pair.ask("PATCH", f"{one}/status", status).code == 200
    after = pair.ask("GET", one).body
    assert after["metadata"]["generation"] == 3 and after["status"]["replicas"] == 3
    assert pair.ask("GET", f"{one}/scale").body["spec"].get("replicas", 0) == 0


def running(name: str, **labels: str) -> Body:
    spec = {**pod_template(1)["spec"], "nodeName": "somewhere", "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def eviction(name: str, **options: Any) -> Body:
    meta = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": meta,
        "deleteOptions": {"gracePeriodSeconds": 0, **options},
    }


def ready(pair: TwoServers, name: str, app: str) -> str:
    pair.ask("POST", PODS, running(name, app=app))
    up = {"phase": "Running", "conditions": [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]}
    assert pair.ask("PATCH", f"{PODS}/{name}/status", {"status": up}).code == 200
    return f"{PODS}/{name}/eviction"


def covered(pair: TwoServers, name: str, app: str, allowed: int, **status: int) -> None:
    """A budget and its status, as the disruption controller would write it."""
    pair.ask("POST", BUDGETS, budget(name, app, minAvailable=1))
    row = {"disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "observedGeneration": 1}
    assert pair.ask("PATCH", f"{BUDGETS}/{name}/status", {"status": {**row, **status}}).code == 200


def test_eviction_without_a_budget(pair: TwoServers) -> None:
    path = ready(pair, "free", "free")
    assert pair.ask("POST", f"{PODS}/gone/eviction", eviction("gone")).code == 404
    assert pair.ask("POST", path, eviction("free", preconditions={"uid": "another"})).code == 409
    assert pair.ask("POST", f"{path}?dryRun=All", eviction("free")).code == 201
    assert pair.ask("GET", f"{PODS}/free").code == 200
    assert pair.ask("POST", path, {**eviction("free"), "apiVersion": "policy/v9"}).code == 400
    assert pair.ask("POST", path, {**eviction("free"), "metadata": {"name": "other"}}).code == 400
    assert pair.ask("POST", path, eviction("free")).code == 201
    assert pair.ask("GET", f"{PODS}/free").code == 404


def test_a_budget_allows_what_it_says_and_counts_down(pair: TwoServers) -> None:
    paths = [ready(pair, f"counted-{i}", "counted") for i in range(3)]
    covered(pair, "counted", "counted", allowed=1, currentHealthy=3, desiredHealthy=2, expectedPods=3)
    assert pair.ask("POST", f"{paths[0]}?dryRun=All", eviction("counted-0")).code == 201
    assert pair.ask("GET", f"{BUDGETS}/counted").body["status"]["disruptionsAllowed"] == 1
    assert pair.ask("POST", paths[0], eviction("counted-0")).code == 201
    assert pair.ask("GET", f"{BUDGETS}/counted").body["status"]["disruptionsAllowed"] == 0
    assert pair.ask("POST", f"{paths[1]}?dryRun=All", eviction("counted-1")).code == 429
    assert pair.ask("POST", paths[1], eviction("counted-1")).code == 429
    assert pair.ask("POST", paths[1], eviction("counted-1", preconditions={"uid": "another"})).code in (409, 429)


def test_a_budget_that_its_controller_has_not_looked_at_says_when_to_come_again(pair: TwoServers) -> None:
    path = ready(pair, "young", "young")
    pair.ask("POST", BUDGETS, budget("young", "young", minAvailable=1))
    answer = pair.ask("POST", path, eviction("young"))
    assert (answer.code, answer.retry_after) == (429, "10")
    row = {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2, "observedGeneration": 1}
    pair.ask("PATCH", f"{BUDGETS}/young/status", {"status": row})
    assert pair.ask("PATCH", f"{BUDGETS}/young", {"spec": {"minAvailable": 2}}).body["metadata"]["generation"] == 2
    assert pair.ask("POST", path, eviction("young")).code == 429


def test_two_budgets_over_one_pod_are_refused_for_ever(pair: TwoServers) -> None:
    path = ready(pair, "twice", "twice")
    for name in ("first", "second"):
        covered(pair, name, "twice", allowed=1)
    assert pair.ask("POST", path, eviction("twice")).code == 500


def test_pods_that_run_nothing_may_go_whatever_the_budget_says(pair: TwoServers) -> None:
    pair.ask("POST", PODS, running("pending", app="idle"))
    over = ready(pair, "over", "idle")
    pair.ask("PATCH", f"{PODS}/over/status", {"status": {"phase": "Succeeded"}})
    covered(pair, "idle", "idle", allowed=0)
    assert pair.ask("POST", f"{PODS}/pending/eviction", eviction("pending")).code == 201
    assert pair.ask("POST", over, eviction("over")).code == 201


@pytest.mark.parametrize(("healthy", "code"), [(1, 201), (0, 429)])
def test_a_pod_that_is_not_ready_may_go_while_enough_others_are(pair: TwoServers, healthy: int, code: int) -> None:
    """Of a budget that allows nothing: the pod is none of those that it counts."""
    name = f"unready-{healthy}"
    path = ready(pair, name, name)
    pair.ask("PATCH", f"{PODS}/{name}/status", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    covered(pair, name, name, allowed=0, currentHealthy=healthy)
    assert pair.ask("POST", path, eviction(name)).code == code


def test_what_of_a_job_may_change(pair: TwoServers) -> None:
    one = f"{JOBS}/fixed"
    pair.ask("POST", JOBS, job("fixed"))
    affinity = {"spec": {"template": {"spec": {"affinity": {"nodeAffinity": _elsewhere("n1")}}}}}
    started = {"active": 1, "startTime": "2026-01-01T00:00:00Z"}
    pair.ask("PATCH", f"{one}/status", {"status": started})
    assert pair.ask("PATCH", one, affinity).code == 422, "it runs"
    assert pair.ask("PATCH", one, {"spec": {"suspend": True}}).body["metadata"]["generation"] == 2
    assert pair.ask("PATCH", one, affinity).code == 422, "its pods have not gone"
    parked = {"active": None, "startTime": None, "conditions": [{"type": "Suspended", "status": "True"}]}
    assert pair.ask("PATCH", f"{one}/status", {"status": parked}).code == 200
    assert pair.ask("PATCH", one, {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}}).code == 422
    both = {"spec": {"suspend": False, **affinity["spec"]}}
    assert pair.ask("PATCH", f"{one}?dryRun=All", both).code == 200
    assert pair.ask("PATCH", one, both).body["spec"]["suspend"] is False


def _elsewhere(name: str) -> Body:
    row = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [name]}]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [row]}}


def test_pods_and_priorities(pair: TwoServers) -> None:
    body = {"metadata": {"name": "important"}, "value": 1000, "preemptionPolicy": "Never"}
    assert pair.ask("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body).code == 201
    spec = pod_template(1)["spec"]
    made = pair.ask("POST", PODS, {"metadata": {"name": "ranked"}, "spec": {**spec, "priorityClassName": "important"}}).body
    assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (1000, "Never")
    assert pair.ask("POST", PODS, {"metadata": {"name": "odd"}, "spec": {**spec, "priorityClassName": "none"}}).code == 403
    assert pair.ask("PATCH", f"{PODS}/ranked", {"spec": {"priority": 7}}).code == 422
    assert pair.ask("PATCH", f"{PODS}/ranked", {"metadata": {"labels": {"a": "b"}}}).code == 200


def test_nodes_and_cordons(pair: TwoServers) -> None:
    pair.ask("POST", NODES, node("n0"))
    assert pair.ask("PATCH", f"{NODES}/n0/status", {"status": node("n0")["status"]}).body["status"]["capacity"]["cpu"] == "64"
    shut = pair.ask(
        "PATCH", f"{NODES}/n0", {"spec": {"unschedulable": True}, "metadata": {"annotations": {"aiops.io/reason": "r"}}}
    )
    assert shut.body["spec"]["unschedulable"] is True
    assert "unschedulable" not in pair.ask("PATCH", f"{NODES}/n0", {"spec": {"unschedulable": None}}).body["spec"]


def test_selectors_pages_and_deletes(pair: TwoServers) -> None:
    for i in range(5):
        pair.ask(
            "POST", MAPS, {"metadata": {"name": f"map-{i}", "labels": {"turn": str(i % 2), "app": "pages"}}, "data": {"k": "v"}}
        )
    for text in (
        "turn=1,app=pages",
        "turn==0,app=pages",
        "turn!=0,app=pages",
        "app,turn in (0, 1)",
        "app=pages,turn notin (1)",
        "!turn,app",
    ):
        rows = pair.ask("GET", f"{MAPS}?labelSelector={text.replace(' ', '%20')}").body["items"]
        assert len(rows) in (0, 2, 3, 5)
    page = pair.ask("GET", f"{MAPS}?limit=2&labelSelector=app%3Dpages").body
    assert len(page["items"]) == 2 and page["metadata"]["continue"]
    assert pair.ask("GET", f"{MAPS}?labelSelector=%3D%3D").code == 400
    assert pair.ask("GET", f"{PODS}?fieldSelector=spec.colour%3Dred").code == 400
    assert pair.ask("GET", f"{MAPS}?limit=2&continue=nonsense").code == 400
    assert pair.ask("DELETE", f"{MAPS}/map-0", {"preconditions": {"uid": "another"}}).code == 409
    assert pair.ask("DELETE", f"{MAPS}/map-0?dryRun=All").code == 200
    assert pair.ask("DELETE", f"{MAPS}/map-0").code == 200
    assert pair.ask("DELETE", f"{MAPS}/map-0").code == 404


@pytest.mark.parametrize(
    ("path", "made"), [(SETS, stateful_set("noted")), (JOBS, job("noted")), (WORKERS, worker_set("noted"))]
)
def test_annotations_are_no_change_of_other_kinds(pair: TwoServers, path: str, made: Body) -> None:
    pair.ask("POST", path, made)
    assert pair.ask("PATCH", f"{path}/noted", {"metadata": {"annotations": {"x": "y"}}}).body["metadata"]["generation"] == 1


def test_leases(pair: TwoServers) -> None:
    spec = {
        "holderIdentity": "one",
        "leaseDurationSeconds": 13,
        "leaseTransitions": 1,
        "renewTime": "2026-01-01T00:00:00.000000Z",
    }
    assert pair.ask("POST", LEASES, {"metadata": {"name": "l"}, "spec": spec}).code == 201
    assert pair.ask("PUT", f"{LEASES}/l", {"metadata": {"name": "l"}, "spec": {**spec, "holderIdentity": "two"}}).code == 422
    assert pair.ask("PATCH", f"{LEASES}/l", stamped_lease).body["spec"]["holderIdentity"] == "two"
    assert pair.ask("PATCH", f"{LEASES}/l", {"spec": {"leaseDurationSeconds": "long"}}).code == 422


def stamped_lease(seen: dict[str, Body]) -> Body:
    return {"spec": {"holderIdentity": "two", "leaseTransitions": 2}}


def test_a_watch_tells_what_happened_since(pair: TwoServers) -> None:
    pair.ask("GET", MAPS)
    since = {one: one.seen[MAPS]["metadata"]["resourceVersion"] for one in (pair.ours, pair.real)}
    pair.ask("POST", MAPS, {"metadata": {"name": "seen", "labels": {"a": "1"}}, "data": {"k": "v"}})
    pair.ask("PATCH", f"{MAPS}/seen", {"data": {"k": "w"}})
    pair.ask("PATCH", f"{MAPS}/seen", {"data": {"k": "w"}})  # changes nothing: no event
    pair.ask("PATCH", f"{MAPS}/seen", {"metadata": {"labels": {"a": "2"}}})
    pair.ask("DELETE", f"{MAPS}/seen")
    for selector, wanted in (
        ("", ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]),
        ("&labelSelector=a%3D1", ["ADDED", "MODIFIED", "DELETED"]),
    ):
        told = []
        for one, version in since.items():
            path = f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}{selector}"
            told.append([row["type"] for row in one.ask("GET", path, None, "").body["events"] if row["type"] != "BOOKMARK"])
        assert told == [wanted, wanted]


def test_a_watch_from_a_forgotten_version_is_told_to_list_again(pair: TwoServers) -> None:
    """A watch window of the in-process server, a compaction of etcd."""
    pair.forget()
    told = [
        one.ask("GET", f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=2", None, "").body for one in (pair.ours, pair.real)
    ]
    rows = [found["events"][0]["object"] for found in told]
    assert [(row["code"], row["reason"]) for row in rows] == [(410, "Expired")] * 2
