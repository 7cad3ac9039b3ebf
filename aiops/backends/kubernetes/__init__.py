"""A Kubernetes cluster: read by list and watch, changed by compare-and-set patches and the Eviction API.

Its place: behind `ports.Backend`. It must not know policies, forecasts or the store. What it did is written on the object
that it did it to, in the same patch: a restarted daemon finds there whether an admitted action has happened.
"""

from aiops.backends.kubernetes.backend import KubernetesBackend

__all__ = ["KubernetesBackend"]
