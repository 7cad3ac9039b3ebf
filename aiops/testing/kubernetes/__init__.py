"""A Kubernetes API server inside the test process, faithful where a cluster controller can be hurt.

Its place: `ApiServer` listens on loopback and speaks the REST protocol, so that the backend under test goes through its real
client. It reproduces list and watch with resource versions, 409, 410, 429 and 403, the scale, status and eviction
subresources with the arithmetic of disruption budgets, server-side dry run, merge and strategic merge patches and leases.
What it must not know: the backend. The same tests run against a real API server (see tests/backends/kubernetes).
"""

from aiops.testing.kubernetes.server import ApiServer

__all__ = ["ApiServer"]
