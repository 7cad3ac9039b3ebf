"""A real control plane on loopback, from the binaries in the folder that KUBE_ASSETS names; ended by its own pids.

etcd and kube-apiserver always; kube-controller-manager and kube-scheduler on demand. There are no kubelets: `kubelets.py`
plays them. Nodes are never tainted for being silent, since nothing here sends their heartbeats.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import audit
import orjson
import urllib3

TOKEN = "only-this-test"
_SERVERS = ("etcd", "kube-apiserver")
_CONTROLLERS = ("kube-controller-manager", "kube-scheduler")


def missing(names: tuple[str, ...] = _SERVERS) -> str:
    """Why there is no real server here; '' where there is one."""
    folder = os.environ.get("KUBE_ASSETS", "")
    if not folder:
        return f"KUBE_ASSETS names no folder with {', '.join(names)}"
    absent = [name for name in names if shutil.which(name, path=folder) is None]
    return (
        f"KUBE_ASSETS has no {', '.join(absent)}" if absent else "" if shutil.which("openssl") else "openssl is not installed"
    )


def missing_controllers() -> str:
    """Why there is no whole control plane here; '' where there is one."""
    return missing((*_SERVERS, *_CONTROLLERS))


class RealApiServer:
    """Started by `with`; without `controllers` only the API server and its store."""

    def __init__(self, directory: Path, controllers: bool = False) -> None:
        self._directory, self._controllers = directory, controllers
        self._running: list[subprocess.Popen[bytes]] = []
        self._commands: list[tuple[object, ...]] = []
        self.port, self._client, self._peer = (_free() for _ in range(3))

    def __enter__(self) -> "RealApiServer":
        here, folder = self._directory, Path(os.environ["KUBE_ASSETS"])
        key, etcd = here / "sa.key", f"http://127.0.0.1:{self._client}"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (here / "tokens.csv").write_text(f"{TOKEN},aiops,1,system:masters\n")
        peer = f"http://127.0.0.1:{self._peer}"
        self._start(
            folder / "etcd", "--unsafe-no-fsync", f"--data-dir={here / 'etcd'}",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        )  # fmt: skip
        self._start(
            folder / "kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={self.port}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            f"--cert-dir={here / 'certs'}", f"--token-auth-file={here / 'tokens.csv'}", "--authorization-mode=RBAC",
            "--service-account-issuer=https://localhost", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition", *audit.flags(here),
        )  # fmt: skip
        self._wait()
        if self._controllers:
            self._start_controllers(folder, self.kubeconfig(here / "controllers.kubeconfig"))
        return self

    def _start_controllers(self, folder: Path, kubeconfig: Path) -> None:
        same = (f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0")
        names = "deployment,replicaset,statefulset,job,disruption,garbagecollector,namespace"  # as all versions know them
        self._start(folder / "kube-controller-manager", *same, f"--controllers={names}", "--concurrent-gc-syncs=2")
        self._start(folder / "kube-scheduler", *same)

    def _start(self, *command: object) -> None:
        self._commands.append(command)
        self._running.append(self._spawned(*command))

    def _spawned(self, *command: object) -> subprocess.Popen[bytes]:
        with (self._directory / f"{Path(str(command[0])).name}.log").open("ab") as log:
            return subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _wait(self) -> None:
        url, deadline = f"https://127.0.0.1:{self.port}/api/v1/namespaces/default", time.monotonic() + 60.0
        with urllib3.PoolManager(cert_reqs="CERT_NONE", assert_hostname=False) as pool, _quiet():
            while time.monotonic() < deadline:
                try:
                    if pool.request("GET", url, headers={"Authorization": f"Bearer {TOKEN}"}, retries=False).status == 200:
                        return
                except urllib3.exceptions.HTTPError:
                    pass
                time.sleep(0.2)
        self.__exit__()
        raise AssertionError(f"no API server within 60 s; see the logs in {self._directory}")

    def restart(self) -> None:
        """The API server dies and comes back on the same port: its watch cache begins anew."""
        self._running[1].kill()
        self._running[1].wait()
        self._running[1] = self._spawned(*self._commands[1])
        self._wait()

    @property
    def directory(self) -> Path:
        """Where its logs are, the audit log among them."""
        return self._directory

    def kubeconfig(self, path: Path, token: str = TOKEN) -> Path:
        authority = self._directory / "certs" / "apiserver.crt"  # self-signed: its own authority
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(authority)}
        body = {
            "apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        path.write_bytes(orjson.dumps(body))
        return path

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running):
            process.kill()
            process.wait()
        self._running.clear()


def _quiet():  # type: ignore[no-untyped-def]
    import warnings

    return warnings.catch_warnings(action="ignore")


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
