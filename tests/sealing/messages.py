"""Binary HTTP messages that several tests share, and their two forms."""

from sealing import bhttp
from sealing.bhttp import (
    Informational,
    Request,
    Response,
)

POST = Request("POST", "https", "worker", "/v1", ((b"content-type", b"a/b"),), b"body", ((b"t", b"1"),))
OK = Response(200, ((b"server", b"x"),), b"body", ((b"t", b"1"),), (Informational(103, ((b"link", b"y"),)),))


def forms(message: Request | Response) -> list[bytes]:
    if isinstance(message, Request):
        return [bhttp.encode_request(message), bhttp.encode_request_indeterminate(message)]
    return [bhttp.encode_response(message), bhttp.encode_response_indeterminate(message)]


def decode(raw: bytes, kind: type[object]) -> Request | Response:
    return bhttp.decode_request(raw) if kind is Request else bhttp.decode_response(raw)
