"""Run the service: ``python -m services.source_webhook``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.source_webhook.adapters import Deps, webhook_routes
from services.source_webhook.handlers import ROUTES
from services.source_webhook.settings import Settings
from shared.runtime import Resources, Service, run


@asynccontextmanager
async def deps(settings: Settings, resources: Resources) -> AsyncIterator[Deps]:
    yield Deps(
        publisher=resources.publisher,
        secret=settings.webhook_secret,
        body_limit_bytes=settings.webhook_body_limit_bytes,
        publish_timeout_s=settings.webhook_publish_timeout_s,
    )


if __name__ == "__main__":
    run(Service(name="source_webhook", settings=Settings, deps=deps, routes=ROUTES, http=webhook_routes))
