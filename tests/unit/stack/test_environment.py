"""What the stack's processes are told through their environment."""

import pytest

from edgeloop.stack.stack import _environment


def test_settings_reach_the_services_and_secrets_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGELOOP_WEBHOOK_BODY_LIMIT_BYTES", "1000")
    monkeypatch.setenv("EDGELOOP_NATS_URL", "nats://elsewhere:4222")
    monkeypatch.setenv("EDGELOOP_WEBHOOK_SECRET", "a forge's")
    monkeypatch.setenv("EDGELOOP_SIGNING_KEY", "/another/stack.pem")
    told = _environment({"EDGELOOP_NATS_URL": "nats://here:4222"})
    assert told["EDGELOOP_WEBHOOK_BODY_LIMIT_BYTES"] == "1000"
    assert told["EDGELOOP_NATS_URL"] == "nats://here:4222"
    assert not {"EDGELOOP_WEBHOOK_SECRET", "EDGELOOP_SIGNING_KEY"} & told.keys()
