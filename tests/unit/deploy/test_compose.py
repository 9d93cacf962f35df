"""docker-compose.yml starts every service, and says the same as the code."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from device_gateway.config import read_config

ROOT = Path(__file__).parents[3]
INFRASTRUCTURE = {"nats", "prometheus"}
COMPOSE = shutil.which("docker-compose")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    found: dict[str, Any] = document["services"]
    return found


def packages() -> dict[str, str]:
    """Return the module that runs each service, by the service's name."""
    names = [path.parent.name for path in (ROOT / "services").glob("*/__init__.py")]
    return {"device_gateway": "device_gateway", **{name: f"services.{name}" for name in names}}


def test_every_service_package_is_started_with_its_own_command(services: dict[str, Any]) -> None:
    commands = {name: service["command"] for name, service in services.items() if name not in INFRASTRUCTURE}
    assert commands == {name: ["python", "-m", module] for name, module in packages().items()}


def test_every_service_has_one_image_a_health_check_and_the_bus(services: dict[str, Any]) -> None:
    ours = [service for name, service in services.items() if name not in INFRASTRUCTURE]
    assert len({service["image"] for service in ours}) == 1
    for service in ours:
        assert "/readyz" in service["healthcheck"]["test"][-1]
        assert service["environment"]["EDGELOOP_NATS_URL"] == "nats://nats:4222"
        assert service["depends_on"] == {"nats": {"condition": "service_healthy"}}


def test_every_variable_that_a_service_is_given_is_one_of_its_settings(services: dict[str, Any]) -> None:
    for name, module in packages().items():
        settings = importlib.import_module(f"{module}.settings").Settings
        allowed = {f"EDGELOOP_{field}".upper() for field in settings.model_fields}
        assert set(services[name]["environment"]) <= allowed, name


def test_the_bus_is_recent_enough_and_publishes_no_port(services: dict[str, Any]) -> None:
    version = re.fullmatch(r"nats:(\d+)\.(\d+)(\.\d+)?-alpine", services["nats"]["image"])
    assert version
    assert (int(version[1]), int(version[2])) >= (2, 11)
    assert "ports" not in services["nats"]


def test_prometheus_scrapes_every_service() -> None:
    document = YAML(typ="safe").load(ROOT / "deploy/prometheus/prometheus.yml")
    targets = document["scrape_configs"][0]["static_configs"][0]["targets"]
    assert sorted(targets) == sorted(f"{name}:8080" for name in packages())


def test_the_image_is_built_from_hashed_locks_and_runs_without_root() -> None:
    steps = (ROOT / "deploy/Dockerfile").read_text("utf-8")
    assert "--require-hashes -r requirements/all.txt" in steps
    assert re.search(r"^USER (?!root)\w+$", steps, re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", steps, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), f"the Dockerfile copies {name}, which is not there"


@pytest.mark.skipif(COMPOSE is None, reason="needs docker-compose: apt-get install docker-compose")
def test_docker_compose_accepts_the_file() -> None:
    assert COMPOSE
    done = subprocess.run(
        [COMPOSE, "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        env={"PATH": os.environ["PATH"], "HOME": "/", "EDGELOOP_WEBHOOK_SECRET": "0123456789abcdef"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(COMPOSE is None, reason="needs docker-compose: apt-get install docker-compose")
def test_docker_compose_refuses_to_start_without_a_webhook_secret() -> None:
    assert COMPOSE
    done = subprocess.run(
        [COMPOSE, "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        env={"PATH": os.environ["PATH"], "HOME": "/"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "set it to what the forge was given" in done.stderr


def test_the_nats_configuration_is_valid() -> None:
    server = shutil.which("nats-server", path=str(Path(sys.executable).parent))
    assert server
    done = subprocess.run(
        [server, "-t", "--config", str(ROOT / "deploy/nats/nats.conf")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_gateways_example_configuration_is_one_that_it_reads() -> None:
    assert [device.id for device in read_config(ROOT / "deploy/gateway/gateway.yaml").devices] == ["desk-1"]
