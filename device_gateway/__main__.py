"""Run a gateway: ``python -m device_gateway``."""

import sys

from device_gateway.config import ConfigError, read_config
from device_gateway.gateway import Gateway, open_gateway
from device_gateway.handlers import ROUTES
from device_gateway.polling import forward_telemetry, watch_states
from device_gateway.settings import Settings
from device_gateway.store import METADATA
from shared.artifacts.keys import PublicKeyError
from shared.runtime import Service, run


async def serve_lab_boards(gateway: Gateway) -> None:
    """Answer for the boards of the lab that hang here."""
    await gateway.serve_lab()


SERVICE = Service(
    name="device_gateway",
    settings=Settings,
    deps=open_gateway,
    routes=ROUTES,
    metadata=METADATA,
    background=(watch_states, forward_telemetry, serve_lab_boards),
    receiver=lambda settings: read_config(settings.gateway_config).gateway,
)

if __name__ == "__main__":
    try:
        run(SERVICE)
    except (ConfigError, PublicKeyError) as error:
        sys.stderr.write(f"device_gateway: {error}\n")
        sys.exit(2)
