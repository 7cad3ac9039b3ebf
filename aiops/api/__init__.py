"""The house seen from outside: health, metrics, the REST interface and the dashboard. Reads the store, writes orders only.

Every resource is one small file with a router. Nothing here decides or acts: an order is a row that the next cycle sees,
and the kill switch is a callback that the daemon hands in. Compatibility interfaces (`/prometheus`, `/alertmanager`) have
their prefixes kept free.
"""
