"""The experimenter's side of the virtual boards: where they are worn, and how often they are right.

Labels exist in the boards' own process only; no service ever sees them.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final

import httpx

from edgeloop.errors import InfrastructureError

POLL_S: Final = 0.5
TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Score:
    """Predictions of the boards against labels."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


class Playground:
    """The HTTP interface of the process that hosts the boards."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False)

    async def move_to(self, environment: str) -> None:
        """Wear all watches there, and begin to count anew.

        Raises:
            InfrastructureError: the host does not answer, or nobody was recorded there.
        """
        await self._request("PUT", "/environment", {"name": environment})
        await self.reset()

    async def reset(self) -> None:
        """Begin to count anew."""
        await self._request("GET", "/accuracy?reset=1")

    async def measure(self, environment: str, *, predictions: int, deadline_s: float) -> Score:
        """Return the score in an environment once there are enough predictions of it.

        Raises:
            InfrastructureError: the boards made too few in time.
        """
        score = Score(0, 0)
        try:
            async with asyncio.timeout(deadline_s):
                while (score := await self._score(environment)).total < predictions:  # noqa: ASYNC110 - another process counts
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise InfrastructureError(
                f"the boards made {score.total} predictions in environment {environment!r} within {deadline_s:g} s; "
                f"{predictions} are needed to measure their accuracy"
            ) from error
        return score

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def _score(self, environment: str) -> Score:
        rows = (await self._request("GET", "/accuracy")).json()
        sums: Counter[str] = Counter()
        for row in rows:
            if row["environment"] == environment:
                sums.update(correct=row["correct"], total=row["total"])
        return Score(sums["correct"], sums["total"])

    async def _request(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, json=body)
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise InfrastructureError(f"{method} {error.request.url}: {error.response.text.strip()[:300]}") from error
        except httpx.HTTPError as error:
            raise InfrastructureError(
                f"{method} {self._http.base_url}{path}: {type(error).__name__} {error}"
            ) from error
        return answer
