"""W3C Trace Context through events. Spans are made where an exporter is configured; the context travels always.

Source: https://www.w3.org/TR/trace-context/
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing:
    """Spans around handlers, one trace per pipeline run."""

    def __init__(self, service: str) -> None:
        """Export to OTEL_EXPORTER_OTLP_ENDPOINT where that is set.

        Raises:
            ModuleNotFoundError: it is set and the extra edgeloop[tracing] is not installed.
        """
        self._tracer: trace.Tracer | None = None
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
            self._tracer = _exporting_tracer(service)

    @contextmanager
    def span(self, name: str, traceparent: str | None) -> Iterator[str | None]:
        """Open a span below `traceparent`; yield the context for what it causes."""
        if self._tracer is None:
            yield traceparent
            return
        parent = _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {})
        with self._tracer.start_as_current_span(name, context=parent):
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier)
            yield carrier.get("traceparent")


def _exporting_tracer(service: str) -> trace.Tracer:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - an extra

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("edgeloop")
