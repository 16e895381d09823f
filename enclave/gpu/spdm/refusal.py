"""How a responder says no."""

from .codes import ErrorCode


class Refusal(Exception):
    """A request is answered with ERROR of this code."""

    def __init__(self, code: ErrorCode, data: int = 0) -> None:
        super().__init__(code.name)
        self.code = code
        self.data = data
