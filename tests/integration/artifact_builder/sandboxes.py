"""The sandboxes that this machine has, for tests: a missing one says how to get it."""

import os
from pathlib import Path

import pytest

from services.artifact_builder.sandbox import bubblewrap, container
from services.artifact_builder.sandbox.bubblewrap import Bubblewrap
from services.artifact_builder.sandbox.container import Container
from services.artifact_builder.sandbox.engines import Engine, Sandbox
from services.artifact_builder.sandbox.plain import PlainProcess

IMAGE = "EDGELOOP_TEST_IMAGE"
"""Names an image of the same distribution as this machine, whose engine the tests may use."""


def require(engine: Engine) -> None:
    """Skip the test unless `engine` works here."""
    if engine is Engine.BUBBLEWRAP and (trouble := bubblewrap.trouble()):
        pytest.skip(f"needs bubblewrap ({trouble}): apt-get install bubblewrap, where user namespaces are allowed")
    if engine is Engine.CONTAINER:
        image = os.environ.get(IMAGE)
        trouble = container.trouble(image) if image else f"{IMAGE} names no image"
        if trouble:
            pytest.skip(
                f"needs a container engine ({trouble}): sudo make sandbox-image && export {IMAGE}=edgeloop-sandbox"
            )


def sandbox_of(engine: Engine, scratch: Path, hidden: tuple[Path, ...] = ()) -> Sandbox:
    """Return a sandbox, or skip the test."""
    require(engine)
    match engine:
        case Engine.CONTAINER:
            return Container(os.environ[IMAGE], "", scratch, hidden)
        case Engine.BUBBLEWRAP:
            return Bubblewrap(scratch, hidden)
        case Engine.PROCESS:
            return PlainProcess()
