"""slurmrestd for reading: finds the newest data version that the server offers, and says plainly when a token has run out."""

from __future__ import annotations

import re
from typing import Any

import httpx
import orjson

from aiops.backends.slurm import tokens
from aiops.backends.slurm.commands import Lost
from aiops.backends.slurm.declare import Rest

_VERSION = re.compile(r"/slurm/v0\.0\.(\d+)/jobs/?")
_MOST = 512 * 2**20  # bytes of one answer: 10,000 jobs are about 30 MB


class RestReader:
    """GET jobs and nodes; nothing is ever written this way, because before 24.05 nodes and reservations cannot be."""

    def __init__(self, settings: Rest, timeout_s: float) -> None:
        self._settings = settings
        unix = settings.url.startswith("unix://")
        transport = httpx.HTTPTransport(uds=settings.url.removeprefix("unix://")) if unix else None
        base = "http://localhost" if unix else settings.url.rstrip("/")
        self._client = httpx.Client(base_url=base, transport=transport, timeout=timeout_s, trust_env=False)
        self._version = ""

    def read(self, what: str) -> list[dict[str, Any]]:
        """`jobs` or `nodes`, whole. Raises Lost, or ValueError where the answer is not Slurm's."""
        if not self._version:
            self._version = self._detect()
        answer = self._get(f"/slurm/{self._version}/{what}")
        if answer.get("errors") or not isinstance(answer.get(what), list):
            raise ValueError(f"slurmrestd: {str(answer.get('errors'))[:120]}")
        rows: list[dict[str, Any]] = answer[what]
        return rows

    def _detect(self) -> str:
        for path in ("/openapi/v3", "/openapi.json", "/openapi"):
            try:
                paths = self._get(path).get("paths") or {}
            except ValueError:
                continue
            found = [int(match[1]) for match in map(_VERSION.fullmatch, paths) if match]
            if found:
                return f"v0.0.{max(found)}"
        raise ValueError("slurmrestd offers no /slurm/v0.0.*/jobs")

    def _get(self, path: str) -> dict[str, Any]:
        headers = self._headers()
        try:
            answer = self._client.get(path, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            self._version = ""  # another server version may come back
            raise Lost(f"slurmrestd: {type(error).__name__}") from None
        if answer.status_code in (401, 403):
            raise Lost(f"slurmrestd: refused with {answer.status_code}: the token is wrong, or not for this user")
        if answer.status_code != httpx.codes.OK or len(answer.content) > _MOST:
            raise ValueError(f"slurmrestd: {path} answered {answer.status_code}, as for a token that slurmctld does not accept")
        parsed = orjson.loads(answer.content)
        if not isinstance(parsed, dict):
            raise ValueError("slurmrestd: not an object")
        return parsed

    def _headers(self) -> dict[str, str]:
        if self._settings.token_file is None:
            return {}
        token = tokens.current(self._settings.token_file)
        user = {"X-SLURM-USER-NAME": self._settings.user} if self._settings.user else {}
        return {"X-SLURM-USER-TOKEN": token, **user}

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()
