"""A real etcd and kube-apiserver on loopback, from the binaries in the folder that KUBE_ASSETS names; ended by their pids."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import orjson
import urllib3

TOKEN = "only-this-test"


def missing() -> str:
    """Why there is no real server here; '' where there is one."""
    folder = os.environ.get("KUBE_ASSETS", "")
    if not folder:
        return "KUBE_ASSETS names no folder with etcd and kube-apiserver"
    absent = [name for name in ("etcd", "kube-apiserver") if shutil.which(name, path=folder) is None]
    return (
        f"KUBE_ASSETS has no {', '.join(absent)}" if absent else "" if shutil.which("openssl") else "openssl is not installed"
    )


class RealApiServer:
    """Started by `with`; only the API server and its store: controllers, scheduler and kubelets are the stage's business."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[subprocess.Popen[bytes]] = []
        self.port, self._client, self._peer = (_free() for _ in range(3))

    def __enter__(self) -> "RealApiServer":
        here, folder = self._directory, Path(os.environ["KUBE_ASSETS"])
        key, etcd = here / "sa.key", f"http://127.0.0.1:{self._client}"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (here / "tokens.csv").write_text(f"{TOKEN},aiops,1,system:masters\n")
        peer = f"http://127.0.0.1:{self._peer}"
        self._start(
            folder / "etcd", f"--data-dir={here / 'etcd'}", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        )  # fmt: skip
        self._start(
            folder / "kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={self.port}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            f"--cert-dir={here / 'certs'}", f"--token-auth-file={here / 'tokens.csv'}", "--authorization-mode=RBAC",
            "--service-account-issuer=https://localhost", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
        )  # fmt: skip
        self._wait()
        return self

    def _start(self, *command: object) -> None:
        log = (self._directory / f"{Path(str(command[0])).name}.log").open("wb")
        self._running.append(
            subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        )
        log.close()

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

    def kubeconfig(self, path: Path) -> Path:
        authority = self._directory / "certs" / "apiserver.crt"  # self-signed: its own authority
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(authority)}
        body = {
            "apiVersion": "v1", "kind": "Config", "current-context": "x", "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
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
