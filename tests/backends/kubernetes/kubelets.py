"""Kubelets for a control plane that has none: bound pods run and are ready at once, deleted pods go, deadlines end pods."""

import threading
from datetime import UTC, datetime

from aiops.backends.kubernetes.connection import Connection, Object, Refused
from aiops.backends.kubernetes.declare import KubernetesSettings
from aiops.backends.kubernetes.quantity import timestamp
from aiops.clock import SystemClock
from aiops.errors import Temporary

_PAUSE_S = 0.05


class Kubelets:
    """All nodes' kubelets in one thread, between `with` and its end."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._rest = Connection(settings)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Kubelets":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._rest.close()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE_S):
            try:
                for pod in self._rest.get("/api/v1/pods")["items"]:
                    self._look_after(pod)
            except Temporary:
                continue  # the pod went, somebody was faster, or the server is not there: the next look tells

    def _look_after(self, pod: Object) -> None:
        meta, status = pod["metadata"], pod.get("status", {})
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if not pod["spec"].get("nodeName"):
            return
        try:
            if meta.get("deletionTimestamp"):
                options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
                self._rest._json("DELETE", path, None, options, "application/json")
            elif status.get("phase") == "Pending":
                self._rest.patch(f"{path}/status", {"status": _running()})
            elif status.get("phase") == "Running" and _is_over(pod):
                over = {"phase": "Failed", "reason": "DeadlineExceeded", "conditions": [{"type": "Ready", "status": "False"}]}
                self._rest.patch(f"{path}/status", {"status": over})
        except Refused as error:
            if error.code not in (404, 409):
                raise


def _running() -> Object:
    at = datetime.fromtimestamp(SystemClock().now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rows = [{"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("PodScheduled", "Initialized", "Ready")]
    return {"phase": "Running", "startTime": at, "conditions": rows}


def _is_over(pod: Object) -> bool:
    limit, started = pod["spec"].get("activeDeadlineSeconds"), timestamp(pod["status"].get("startTime"))
    return limit is not None and started is not None and SystemClock().now() - started > limit
