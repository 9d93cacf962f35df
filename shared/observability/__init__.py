"""Structured logs, Prometheus metrics, W3C traces and health endpoints, the same for every service."""

from shared.observability.http import HttpServer, PortInUseError
from shared.observability.logs import configure_logs
from shared.observability.tracing import Tracing

__all__ = ["HttpServer", "PortInUseError", "Tracing", "configure_logs"]
