"""Binary HTTP (RFC 9292): whole messages and streams, of known and of indeterminate length."""

from ..octets import Octets
from .decoder import (
    DEFAULT_LIMITS,
    Data,
    End,
    Event,
    Limits,
    RequestDecoder,
    RequestHead,
    ResponseDecoder,
    ResponseHead,
)
from .encoder import (
    RequestEncoder,
    ResponseEncoder,
    encode_request,
    encode_request_indeterminate,
    encode_response,
    encode_response_indeterminate,
)
from .message import CONNECTION_FIELDS, Field, Fields, Informational, Request, Response

__all__ = [
    "CONNECTION_FIELDS",
    "DEFAULT_LIMITS",
    "Data",
    "End",
    "Event",
    "Field",
    "Fields",
    "Informational",
    "Limits",
    "Request",
    "RequestDecoder",
    "RequestEncoder",
    "RequestHead",
    "Response",
    "ResponseDecoder",
    "ResponseEncoder",
    "ResponseHead",
    "decode_request",
    "decode_response",
    "encode_request",
    "encode_request_indeterminate",
    "encode_response",
    "encode_response_indeterminate",
]


def decode_request(data: Octets, *, limits: Limits = DEFAULT_LIMITS) -> Request:
    """A whole request in either form. Raises MalformedMessage, TruncatedMessage, MessageTooLarge."""
    decoder = RequestDecoder(limits)
    events = decoder.feed(data) + decoder.close()
    head = next(event for event in events if isinstance(event, RequestHead))
    body, trailers = _rest(events)
    return Request(head.method, head.scheme, head.authority, head.path, head.headers, body, trailers)


def decode_response(data: Octets, *, limits: Limits = DEFAULT_LIMITS) -> Response:
    """A whole response in either form. Raises MalformedMessage, TruncatedMessage, MessageTooLarge."""
    decoder = ResponseDecoder(limits)
    events = decoder.feed(data) + decoder.close()
    head = next(event for event in events if isinstance(event, ResponseHead))
    informational = tuple(event for event in events if isinstance(event, Informational))
    body, trailers = _rest(events)
    return Response(head.status, head.headers, body, trailers, informational)


def _rest(events: list[Event]) -> tuple[bytes, Fields]:
    body = b"".join(event.data for event in events if isinstance(event, Data))
    return body, next(event.trailers for event in events if isinstance(event, End))
