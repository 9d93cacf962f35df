"""The experimenter's HTTP interface: move the boards, break them, read the score. On loopback only."""

from json import JSONDecodeError

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from device_gateway.virtual.board import Fault
from device_gateway.virtual.host import Host
from device_gateway.virtual.world import WorldError


class _Environment(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str


class _FaultOrder(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Fault
    seconds: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="How long a hang lasts, or the power is away; else a hang's 5, a moment",
    )
    operations: int | None = Field(default=None, ge=0, description="Cut the power at the flash operation after these")


class _Api:
    """The handlers, around what they serve."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def boards(self, _: Request) -> JSONResponse:
        """GET: what runs where."""
        return JSONResponse(self._host.describe())

    async def faults(self, request: Request) -> JSONResponse:
        """POST: make something go wrong."""
        board = self._host.boards.get(request.path_params["id"])
        if board is None:
            return _refuse(404, f"no board {request.path_params['id']!r}; there are {', '.join(self._host.boards)}")
        try:
            order = _FaultOrder.model_validate(await request.json())
        except (ValidationError, JSONDecodeError) as error:
            return _refuse(422, str(error))
        board.inject(order.kind, seconds=order.seconds, operations=order.operations)
        return JSONResponse({"device": board.name, "kind": order.kind})

    async def environment(self, request: Request) -> JSONResponse:
        """GET and PUT: where all boards are."""
        host = self._host
        if host.world is None:
            return _refuse(409, "the boards have no world to play; set `world` in the configuration")
        if request.method == "PUT":
            try:
                wanted = _Environment.model_validate(await request.json())
                host.surroundings.move_to(host.world.check_environment(wanted.name))
            except (ValidationError, JSONDecodeError, WorldError) as error:
                return _refuse(422, str(error))
        return JSONResponse({"name": host.surroundings.environment, "allowed": host.world.environments})

    async def ready(self, _: Request) -> PlainTextResponse:
        """GET: as every service answers; the boards listen before this interface does."""
        return PlainTextResponse("ready\n")

    async def accuracy(self, request: Request) -> JSONResponse:
        """GET: the score by environment, image and device; counts grow until ``?reset=1``."""
        response = JSONResponse(self._host.ledger.rows())
        if request.query_params.get("reset") == "1":
            self._host.ledger.reset()
        return response


def application(host: Host) -> Starlette:
    """Return the application for `host`."""
    api = _Api(host)
    return Starlette(
        routes=[
            Route("/readyz", api.ready),
            Route("/boards", api.boards),
            Route("/boards/{id}/faults", api.faults, methods=["POST"]),
            Route("/environment", api.environment, methods=["GET", "PUT"]),
            Route("/accuracy", api.accuracy),
        ]
    )


def _refuse(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status_code=status)
