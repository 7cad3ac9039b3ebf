"""A SlurmServer that also takes tokens (auth/jwt), with a real slurmrestd in front of it."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path

import httpx
from slurm_server import QUIET, SBIN, SlurmServer, found, free_ports, wait_for

PLUGINS = (Path("/usr/lib/x86_64-linux-gnu/slurm-wlm"), Path("/usr/lib/aarch64-linux-gnu/slurm-wlm"), Path("/usr/lib/slurm"))


def lacking() -> str:
    """What is not installed of slurmrestd and its tokens; empty where all is."""
    plugin = any((place / "auth_jwt.so").exists() for place in PLUGINS)
    tools = "" if found("slurmrestd") else "slurmrestd "
    return tools + ("" if plugin else "auth/jwt (slurm-wlm-jwt-plugin)")


class RestServer(SlurmServer):
    """As SlurmServer; `url` is its slurmrestd, which speaks the data versions `speaks`."""

    def __init__(self, speaks: str = "openapi/v0.0.37,openapi/v0.0.38") -> None:
        super().__init__()
        key, conf = self.s / "etc/jwt.key", self.s / "etc/slurm.conf"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        if self.drop:
            os.chown(key, self.drop["user"], self.drop["group"])
        conf.write_text(f"AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={key}\n{conf.read_text()}")
        self.speaks = speaks
        self.url = ""

    def start(self) -> None:
        super().start()
        self.start_rest()

    def start_rest(self) -> None:
        """slurmrestd must be neither root nor, to be of any use, SlurmUser."""
        port = free_ports(1)
        other = pwd.getpwnam("daemon")
        drop = {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []} if self.drop else {}
        argv = [found("slurmrestd") or "slurmrestd", "-a", "rest_auth/jwt", "-s", self.speaks, f"127.0.0.1:{port}"]
        env = {**self.env, "SLURM_JWT": "daemon", "PATH": os.pathsep.join(("/usr/bin:/bin", *SBIN))}
        with (self.s / "log/slurmrestd.out").open("ab") as out:
            self.daemons["slurmrestd"] = subprocess.Popen(
                argv, env=env, cwd="/", stdin=QUIET, stdout=out, stderr=out, start_new_session=True, **drop
            )
        self.url = f"http://127.0.0.1:{port}"
        wait_for(self.answers, "slurmrestd")

    def answers(self) -> bool:
        try:
            return httpx.get(self.url, trust_env=False, timeout=1.0).status_code > 0
        except httpx.HTTPError:
            return False

    def stop_rest(self) -> None:
        daemon = self.daemons.pop("slurmrestd")
        daemon.terminate()
        daemon.wait(10)

    def token(self, user: str, lifespan_s: int = 600) -> str:
        """As an administrator makes one."""
        shown = self.run("scontrol", "token", f"username={user}", f"lifespan={lifespan_s}").stdout
        return shown.strip().partition("=")[2]

    def token_file(self, user: str, lifespan_s: int = 600) -> Path:
        path = self.s / f"token-{user}-{time.monotonic_ns()}"
        path.write_text(self.token(user, lifespan_s) + "\n")
        return path
