"""What can go wrong on the bus; every message names the place, what was found, what is allowed and the next step."""


class BusError(Exception):
    """Anything that the bus reports."""


class BusUnreachableError(BusError):
    """No server answered in time."""


class BusClosedError(BusError):
    """The connection was closed for good: whoever waits on it must end."""


class ServerTooOldError(BusError):
    """The server would silently ignore what we rely on."""


class TopologyError(BusError):
    """A stream or consumer on the server is not what the code says, and cannot be changed in place."""


class PublishError(BusError):
    """A message could not be stored. Publishing it again with the same id is always correct."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        """Args: permanent: another attempt with the same message cannot succeed."""
        super().__init__(message)
        self.permanent = permanent


class ConsumerGoneError(BusError):
    """The durable consumer was deleted while it was in use."""


class DeadLetterMissingError(BusError):
    """There is no dead letter with that sequence."""


class EmbeddedServerError(BusError):
    """The embedded server could not be started."""


class ServerBinaryMissingError(EmbeddedServerError):
    """The server's binary is not installed."""


class PortInUseError(EmbeddedServerError):
    """Another program listens on the wanted port."""


class DataDirectoryError(EmbeddedServerError):
    """The server cannot keep its data where it was told to."""
