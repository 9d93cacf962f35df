"""How a handler ends when it does not simply return."""


class Retry(Exception):  # noqa: N818 - an outcome, not an error
    """Not now: deliver the event again later. Counted; after the handler's last attempt it is a dead letter."""

    def __init__(self, reason: str, *, delay_s: float | None = None) -> None:
        """Args: reason: for logs and the dead letter. delay_s: else exponential backoff with jitter."""
        super().__init__(reason)
        self.reason = reason
        self.delay_s = delay_s


class Reject(Exception):  # noqa: N818 - an outcome, not an error
    """Never: this event cannot be handled by this code. It becomes a dead letter at once."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
