"""What operators watch: the health of a service and its metrics, over HTTP.

`metrics` defines every metric.
"""
