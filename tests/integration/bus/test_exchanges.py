"""Questions and answers over a real server."""

from typing import ClassVar

import pytest
from nats.aio.client import Client
from pydantic import BaseModel

from shared.bus.exchanges import Endpoint, NobodyAnsweredError, RefusedError, answering, ask, endpoint_table

ROOT = "edgeloop.test.desk"


class Halve(BaseModel):
    VERB: ClassVar[str] = "halve"

    number: int


class Half(BaseModel):
    number: int


class Repeat(BaseModel):
    VERB: ClassVar[str] = "repeat"

    times: int


class Repeated(BaseModel):
    text: str


async def repeat(question: Repeat) -> Repeated:
    return Repeated(text="x" * question.times)


async def halve(question: Halve) -> Half:
    if question.number % 2:
        raise RefusedError("409", f"{question.number} is odd.\nNext: ask for an even number")
    return Half(number=question.number // 2)


async def divide_by_nothing(question: Halve) -> Half:
    return Half(number=question.number // 0)


async def test_a_question_is_answered(nc: Client) -> None:
    async with answering(nc, "desk", ROOT, endpoint_table(Endpoint(Halve, halve))):
        assert await ask(nc, ROOT, Halve(number=8), Half) == Half(number=4)


async def test_a_refusal_keeps_its_kind_and_every_line_of_its_reason(nc: Client) -> None:
    async with answering(nc, "desk", ROOT, endpoint_table(Endpoint(Halve, halve))):
        with pytest.raises(RefusedError, match=r"7 is odd\.\nNext: ask") as refused:
            await ask(nc, ROOT, Halve(number=7), Half)
    assert refused.value.code == "409"


async def test_what_is_no_question_is_a_bad_request(nc: Client) -> None:
    async with answering(nc, "desk", ROOT, endpoint_table(Endpoint(Halve, halve))):
        message = await nc.request(f"{ROOT}.halve", b"{")
    assert message.headers is not None
    assert message.headers["Nats-Service-Error-Code"] == "400"


async def test_a_failure_of_the_service_is_told_and_the_service_lives_on(nc: Client) -> None:
    async with answering(nc, "desk", ROOT, endpoint_table(Endpoint(Halve, divide_by_nothing))):
        for _ in range(2):
            with pytest.raises(RefusedError, match="ZeroDivisionError") as refused:
                await ask(nc, ROOT, Halve(number=8), Half)
            assert refused.value.code == "500"


async def test_nobody_answers_once_the_block_is_left(nc: Client) -> None:
    async with answering(nc, "desk", ROOT, endpoint_table(Endpoint(Halve, halve))):
        pass
    with pytest.raises(NobodyAnsweredError, match="see that the service runs"):
        await ask(nc, ROOT, Halve(number=8), Half, timeout_s=0.5)


async def test_an_answer_that_the_bus_cannot_carry_is_refused_and_not_silence(nc: Client) -> None:
    async with answering(nc, "desk", ROOT, endpoint_table(Endpoint(Repeat, repeat))):
        with pytest.raises(RefusedError, match=r"more than the bus carries.* ask for less") as refused:
            await ask(nc, ROOT, Repeat(times=2_000_000), Repeated)
        assert refused.value.code == "413"
        assert await ask(nc, ROOT, Repeat(times=3), Repeated) == Repeated(text="xxx")
