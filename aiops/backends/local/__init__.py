"""One machine as a cluster: declared services and jobs run as supervised process groups.

Its place: behind `ports.Backend`. It must not know policies, forecasts or the store. What is wanted lies in one durable
state file (`state.py`); `supervise` brings the processes towards it; an action is one change of that file.
"""

from aiops.backends.local.backend import LocalBackend

__all__ = ["LocalBackend"]
