"""What the rest of a control plane does, at once and in order: workloads make pods, pods find nodes and become ready.

Replica sets are made for Deployments; StatefulSets and LeaderWorkerSets own their pods; Jobs restart pods that were evicted;
the scheduler counts GPUs and honours cordons and node selectors; the kubelet is instantaneous. Nothing here waits or
runs in the background: after any write the cluster is in its settled state, which is what makes tests exact.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

from aiops.clock import SystemClock
from aiops.testing.kubernetes.eviction import BUDGETS, PODS, arithmetic, ready
from aiops.testing.kubernetes.resources import TABLE, Resource
from aiops.testing.kubernetes.scheduling import active, schedule
from aiops.testing.kubernetes.selection import by_object
from aiops.testing.kubernetes.store import Object, Store

_BY_PLURAL = {row.plural: row for row in TABLE}
SETS = tuple(_BY_PLURAL[name] for name in ("deployments", "statefulsets", "leaderworkersets"))
REPLICA_SETS, JOBS, NODES = _BY_PLURAL["replicasets"], _BY_PLURAL["jobs"], _BY_PLURAL["nodes"]


class Controllers:
    """Brings a store to its settled state."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._busy = False
        self._count = itertools.count(1)
        self._known: dict[str, set[str]] = {}
        self._deadlines: dict[tuple[str, str, str], float] = {}
        self.starts_pods = True
        """False: bound pods stay Pending, as with a slow image."""

    def settle(self) -> None:
        """Reconcile until nothing changes; called by the store after each write."""
        if self._busy:
            return
        self._busy = True
        try:
            before = -1
            while before != self._store.version:
                before = self._store.version
                self._sets()
                self._jobs()
                self._collect()
                schedule(self._store)
                self._start()
                self._budgets()
        finally:
            self._busy = False

    # -- workloads -----------------------------------------------------------------------------------------------------

    def _sets(self) -> None:
        for resource in SETS:
            for found in self._store.all(resource):
                owner, plural = found, resource.kind
                if resource.plural == "deployments":
                    owner, plural = self._replica_set(found), "ReplicaSet"
                pods = self._owned(owner)
                self._match(owner, plural, pods, int(found["spec"].get("replicas", 1)))
                pods = self._owned(owner)
                up = sum(ready(pod) for pod in pods)
                self._status(resource, found, {
                    "replicas": len(pods), "readyReplicas": up, "availableReplicas": up,
                    "observedGeneration": found["metadata"]["generation"],
                })  # fmt: skip

    def _replica_set(self, deployment: Object) -> Object:
        meta = deployment["metadata"]
        for row in self._store.all(REPLICA_SETS, meta["namespace"]):
            if row["metadata"]["ownerReferences"][0]["uid"] == meta["uid"]:
                return row
        spec = {key: deployment["spec"].get(key) for key in ("template", "selector")}
        body = {"metadata": {"name": f"{meta['name']}-{meta['uid'][:8]}", **_owned_by("Deployment", meta)}, "spec": spec}
        return self._store.create(REPLICA_SETS, meta["namespace"], body)

    def _jobs(self) -> None:
        for found in self._store.all(JOBS):
            spec, meta, pods = found["spec"], found["metadata"], self._owned(found)
            done = sum(pod["status"].get("phase") == "Succeeded" for pod in pods)
            running = [pod for pod in pods if active(pod)]
            failed = self._lost(found, pods)
            if failed > int(spec.get("backoffLimit", 6)):
                for pod in pods:
                    self._store.delete(PODS, meta["namespace"], pod["metadata"]["name"])
                self._known.pop(meta["uid"], None)
                over = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]
                self._status(JOBS, found, {"active": 0, "failed": failed, "conditions": over})
                continue
            left = max(0, int(spec.get("completions", spec.get("parallelism", 1))) - done)
            want = 0 if spec.get("suspend") else min(int(spec.get("parallelism", 1)), left)
            self._match(found, "Job", running, want)
            running = [pod for pod in self._owned(found) if active(pod)]
            status: dict[str, Any] = {"active": len(running), "ready": sum(map(ready, running)), "succeeded": done}
            if failed:
                status["failed"] = failed
            self._known[meta["uid"]] = {pod["metadata"]["uid"] for pod in running}
            if spec.get("suspend"):
                status["startTime"] = None
                status["conditions"] = [{"type": "Suspended", "status": "True", "reason": "JobSuspended"}]
            else:
                status["startTime"] = found.get("status", {}).get("startTime") or meta["creationTimestamp"]
                known = found.get("status", {}).get("conditions") or []
                status["conditions"] = [{**row, "status": "False"} if row["type"] == "Suspended" else row for row in known]
            self._status(JOBS, found, status)

    def _lost(self, job: Object, pods: list[Object]) -> int:
        """Failures of a Job: pods that somebody else took away, unless they were evicted and its policy ignores that.

        Pods that the controller deletes itself, as for a suspension, are not counted (deleteJobPods in job_controller.go).
        """
        known = self._known.get(job["metadata"]["uid"], set())
        rules = (job["spec"].get("podFailurePolicy") or {}).get("rules", [])
        lenient = any(rule.get("action") == "Ignore" and rule.get("onPodConditions") for rule in rules)
        gone = known - {pod["metadata"]["uid"] for pod in pods if active(pod) or pod["status"]["phase"] == "Succeeded"}
        counted = [uid for uid in gone if not (lenient and uid in self._store.evicted)]
        return int(job.get("status", {}).get("failed", 0)) + len(counted)

    def _owned(self, owner: Object) -> list[Object]:
        meta = owner["metadata"]
        rows = self._store.all(PODS, meta["namespace"])
        return [row for row in rows if row["metadata"].get("ownerReferences", [{}])[0].get("uid") == meta["uid"]]

    def _match(self, owner: Object, kind: str, pods: list[Object], want: int) -> None:
        for pod in sorted(pods, key=lambda row: int(row["metadata"]["resourceVersion"]))[want:]:
            self._store.delete(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
        meta = owner["metadata"]
        spec = owner["spec"]
        template = spec.get("template") or spec.get("leaderWorkerTemplate", {}).get("workerTemplate", {})
        for _ in range(want - len(pods)):
            body = {
                "metadata": {
                    "name": f"{meta['name']}-{next(self._count)}",
                    "labels": {
                        **template.get("metadata", {}).get("labels", {}),
                        **({"job-name": meta["name"]} if kind == "Job" else {}),
                    },
                    "annotations": dict(template.get("metadata", {}).get("annotations", {})),
                    **_owned_by(kind, meta),
                },
                "spec": copy.deepcopy(template.get("spec", {})),
                "status": {"phase": "Pending"},
            }
            self._store.create(PODS, meta["namespace"], body)

    def _collect(self) -> None:
        """Garbage collection: pods and replica sets whose owner is gone go too."""
        living = {row["metadata"]["uid"] for kind in (*SETS, REPLICA_SETS, JOBS) for row in self._store.all(kind)}
        for kind in (REPLICA_SETS, PODS):
            for row in self._store.all(kind):
                owners = row["metadata"].get("ownerReferences", [])
                if owners and owners[0]["kind"] != "DaemonSet" and owners[0]["uid"] not in living:
                    self._store.delete(kind, row["metadata"]["namespace"], row["metadata"]["name"])

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        for pod in self._store.all(PODS):
            if self.starts_pods and pod["spec"].get("nodeName") and pod["status"].get("phase") == "Pending":
                new = copy.deepcopy(pod)
                ready = {"type": "Ready", "status": "True", "lastTransitionTime": pod["metadata"]["creationTimestamp"]}
                new["status"] |= {"phase": "Running", "startTime": pod["metadata"]["creationTimestamp"]}
                new["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}, ready]
                self._store.replace(PODS, new, pod)
                limit = pod["spec"].get("activeDeadlineSeconds")
                if limit is not None:
                    meta = pod["metadata"]
                    self._deadlines[meta["namespace"], meta["name"], meta["uid"]] = SystemClock().elapsed() + limit

    def pass_time(self) -> None:
        """End the pods whose deadline has come; called before each answer, since nothing here runs by itself."""
        over = [key for key, at in self._deadlines.items() if at <= SystemClock().elapsed()]
        for key in over:
            del self._deadlines[key]
            found = next((row for row in self._store.all(PODS, key[0]) if row["metadata"]["uid"] == key[2]), None)
            if found is not None and active(found):
                new = copy.deepcopy(found)
                new["status"] |= {"phase": "Failed", "reason": "DeadlineExceeded", "conditions": []}
                self._store.replace(PODS, new, found)

    def _budgets(self) -> None:
        for row in self._store.all(BUDGETS):
            pods = self._store.all(PODS, row["metadata"]["namespace"])
            mine = [pod for pod in pods if by_object(row["spec"].get("selector"), pod["metadata"].get("labels", {}))]
            looked = {"observedGeneration": row["metadata"]["generation"]}
            self._status(BUDGETS, row, arithmetic(row["spec"], len(mine), sum(ready(pod) for pod in mine)) | looked)

    def _status(self, resource: Resource, found: Object, status: dict[str, Any]) -> None:
        new = copy.deepcopy(found)
        new["status"] = {**new.get("status", {}), **status}
        if new["status"] != found.get("status"):
            self._store.replace(resource, new, found)


def _owned_by(kind: str, meta: dict[str, Any]) -> dict[str, Any]:
    version = {"Job": "batch/v1", "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1"}.get(kind, "apps/v1")
    return {
        "ownerReferences": [{"apiVersion": version, "kind": kind, "name": meta["name"], "uid": meta["uid"], "controller": True}]
    }
