"""One connection to an API server: the official client's configuration, credentials and transport, with plain JSON on top.

The client's own models are left out: they would turn 10,000 pods into 10,000 trees of Python objects, of which a cluster's
picture needs a twentieth. Its retries are switched off: a repeated write is the ledger's decision, never the transport's.
This is the only module that imports `kubernetes` or `urllib3`, and the only one that translates their errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from aiops.backends.kubernetes.declare import KubernetesSettings
from aiops.errors import ConfigError, Temporary

Object = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"
_TWO_BUDGETS = "more than one PodDisruptionBudget"  # the one 500 of the Eviction API that says no, and says it by no reason
_POOL = 32  # a watch per kind and namespace, a cycle and a supervision; the client's own default is five per core
_CONNECT_S = 2.0  # a server that does not accept within it is down or unroutable; the rest of `timeout` is for its answer


class Refused(Temporary):
    """The server answered, and the answer is no: it had no effect."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message


class NotSent(Temporary):
    """The request never reached the server: it had no effect."""


class Lost(Temporary):
    """The request was sent and no answer came: it may have had its effect."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its objects, still as text, the version, the next page's token ('' after the last)."""

    rows: tuple[bytes, ...]
    version: str
    next: str

    def objects(self) -> Iterator[Object]:
        """One object at a time: a page as one tree is half a million dicts, and most of its time went to collecting them."""
        return (_parsed(row) for row in self.rows)


class Connection:
    """REST verbs. Safe to call from several threads."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._configuration = _configuration(settings)
        from kubernetes.client import ApiClient

        self._configuration.connection_pool_maxsize = _POOL
        self._client = ApiClient(self._configuration)
        self._pool = self._client.rest_client.pool_manager

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """An object, or a short list. Raises Refused, NotSent, Lost."""
        return self._json("GET", path, query)

    def page(self, path: str, query: Mapping[str, str]) -> Page:
        """One page of a long list. Raises Refused, NotSent, Lost."""
        return _page(self._data("GET", path, query))

    def patch(self, path: str, body: Object, dry_run: bool = False) -> Object:
        """The object after a merge patch, which all kinds take, custom ones too."""
        return self._json("PATCH", path, {"dryRun": "All"} if dry_run else None, body, MERGE_PATCH)

    def create(self, path: str, body: Object, dry_run: bool = False) -> Object:
        """The object, or the answer of a subresource, after a POST."""
        return self._json("POST", path, {"dryRun": "All"} if dry_run else None, body, "application/json")

    def watch(self, path: str, version: str, window_s: float) -> Iterator[Object]:
        """Events after `version` as they come, for `window_s`; returns once the server has answered that it will send them."""
        query = {
            "watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": str(int(window_s)),
        }  # fmt: skip
        answer = self._request("GET", path, query, read_s=window_s + self._settings.timeout)
        if answer.status != 200:
            data = answer.read()
            answer.release_conn()
            raise _refused(answer.status, data)
        return _events(answer, path)

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.clear()

    def _json(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None = None, content: str = ""
    ) -> Object:
        return _parsed(self._data(method, path, query, body, content))

    def _data(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None = None, content: str = ""
    ) -> bytes:
        from urllib3.exceptions import HTTPError

        answer = self._request(method, path, query, body, content, self._settings.timeout)
        try:
            data: bytes = answer.read(decode_content=True)
        except HTTPError as error:
            raise Lost(f"{method} {path}: {error}") from None
        finally:
            answer.release_conn()
        if not 200 <= answer.status < 300:
            raise _refused(answer.status, data)
        return data

    def _request(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None = None, content: str = "",
        read_s: float = 5.0,
    ) -> Any:  # fmt: skip
        from urllib3 import Timeout
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

        headers = {"Accept": "application/json", "User-Agent": "aiops", **self._credentials()}
        if content:
            headers["Content-Type"] = content
        try:
            return self._pool.request(
                method, self._configuration.host + path + _encoded(query),
                body=None if body is None else orjson.dumps(body), headers=headers, preload_content=False, retries=False,
                redirect=False, timeout=Timeout(connect=min(_CONNECT_S, read_s), read=read_s),
            )  # fmt: skip
        except (ConnectTimeoutError, NewConnectionError) as error:
            raise NotSent(f"{method} {path}: {error}") from None
        except HTTPError as error:
            raise Lost(f"{method} {path}: {error}") from None

    def _credentials(self) -> dict[str, str]:
        """Read afresh for each request: the client renews service account tokens, which expire, by a hook in here."""
        rows = self._configuration.auth_settings().values()
        return {row["key"]: row["value"] for row in rows if row["in"] == "header" and row["value"]}


def _events(answer: Any, path: str) -> Iterator[Object]:
    """One JSON object per line, until the server ends the stream."""
    from urllib3.exceptions import HTTPError

    try:
        rest = b""
        for chunk in answer.stream(1 << 16, decode_content=True):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (_parsed(line) for line in lines if line)
    except HTTPError as error:
        raise Lost(f"{path}: {error}") from None
    finally:
        answer.close()
        answer.release_conn()


def _configuration(settings: KubernetesSettings) -> Any:
    """The official client's configuration, from the service account or a kubeconfig."""
    try:
        from kubernetes import client, config
    except ImportError:
        raise ConfigError(
            "configuration", "backend.kubernetes", "expected the extra: pip install 'aiops[kubernetes]'"
        ) from None
    found: Any = client.Configuration()
    loader: Any = config  # untyped
    try:
        if settings.kubeconfig is None and not settings.context:
            try:
                loader.load_incluster_config(client_configuration=found)
                return found
            except config.ConfigException:
                pass  # not inside of a cluster
        path = str(settings.kubeconfig) if settings.kubeconfig else None
        loader.load_kube_config(path, settings.context or None, found, persist_config=False)
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        where = str(settings.kubeconfig or "default kubeconfig")
        raise ConfigError(where, "", f"expected a valid kubeconfig: {error}") from None
    return found


def _encoded(query: Mapping[str, str] | None) -> str:
    from urllib.parse import urlencode

    return f"?{urlencode(query)}" if query else ""


def _page(data: bytes) -> Page:
    """A list, cut into its objects without building them."""
    import msgspec

    try:
        top = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        rows = msgspec.json.decode(top.get("items", b"null"), type=list[msgspec.Raw] | None) or []
    except msgspec.DecodeError as error:
        raise Lost(f"an answer that is not a list: {error}") from None
    meta = _parsed(bytes(top.get("metadata", b"{}")))
    if not meta.get("resourceVersion"):
        raise Lost("a list without a version")
    return Page(tuple(bytes(row) for row in rows), str(meta["resourceVersion"]), str(meta.get("continue") or ""))


def _parsed(data: bytes) -> Object:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Lost(f"an answer that is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Lost("an answer that is not an object")
    return found


def _refused(code: int, data: bytes) -> Temporary:
    """What a status code means: 5xx other than a clear refusal may hide an effect (a proxy's 502 or 504)."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        body = {}
    body = body if isinstance(body, dict) else {}
    message = str(body.get("message", ""))[:300]
    if code in (500, 502, 504) and _TWO_BUDGETS not in message:
        return Lost(f"{code}: {message}")
    return Refused(code, str(body.get("reason", "")), message)
