from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus import MESSAGE_ID
from shared.bus.deadletters import dead_letter_of
from shared.bus.delivery import delivery_of

SHORT = "$JS.ACK.EVENTS.lab.3.71.99.1700000000123456789.5"
LONG = "$JS.ACK.hub.HASH.EVENTS.lab.3.71.99.1700000000123456789.5.RANDOM"


def message(reply: str) -> Msg:
    return Msg(Client(), "edgeloop.evt.watch.artifact.built.v1", reply, b"body", {MESSAGE_ID: "id-1"})


def test_both_forms_of_the_reply_subject_say_the_same() -> None:
    for reply in (SHORT, LONG):
        delivery = delivery_of(message(reply))
        assert (delivery.stream, delivery.consumer) == ("EVENTS", "lab")
        assert (delivery.attempt, delivery.stream_sequence) == (3, 71)
        assert delivery.stored_at.isoformat() == "2023-11-14T22:13:20.123457+00:00"
        assert delivery.message_id == "id-1"


def test_a_log_line_names_the_delivery_but_not_its_body() -> None:
    delivery = delivery_of(message(SHORT))
    assert str(delivery) == "lab: EVENTS 71 (edgeloop.evt.watch.artifact.built.v1), attempt 3"
    assert "body" not in repr(delivery)


def test_the_same_failure_makes_the_same_dead_letter() -> None:
    first = dead_letter_of(delivery_of(message(SHORT)), "because")
    again = dead_letter_of(delivery_of(message(LONG)), "because")
    assert first == again
    assert first.subject == "edgeloop.dlq.EVENTS.lab"
    assert first.message_id == "dlq-EVENTS-lab-71"
