"""A step's plain tokens have an encoder of their own, which gives what the general one would, and no more."""

import contextlib

import pytest
from cbor2 import CBORSimpleValue
from hypothesis import example, given
from hypothesis import strategies as st

from enclave.gpu.device import messages
from enclave.gpu.device.codec import MessageError, dumps
from enclave.gpu.device.messages import Events, decode_reply, encode

NUMBERS = st.integers(0, 2**64 - 1) | st.integers(0, 300)


@given(st.lists(st.tuples(NUMBERS, NUMBERS).map(list), max_size=30))
@example([[23, 24], [255, 256], [65535, 65536], [2**32 - 1, 2**32]])
def test_tokens_are_encoded_as_by_the_general_encoder(events: list[list[int]]) -> None:
    message = Events(tuple(events))
    assert encode(message) == dumps([messages._EVENTS, events])
    assert decode_reply(encode(message)) == message


@given(st.lists(st.tuples(NUMBERS, NUMBERS).map(list), min_size=1, max_size=5), st.data())
def test_what_is_altered_parses_to_what_it_says_or_not_at_all(
    events: list[list[int]], data: st.DataObject
) -> None:
    raw = bytearray(encode(Events(tuple(events))))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MessageError):
        assert encode(decode_reply(bytes(raw))) == bytes(raw)


def test_another_form_of_the_same_numbers_is_refused() -> None:
    longer = bytes((0x82, messages._EVENTS, 0x81, 0x82, 0x18, 0x05, 0x07))  # 5 in two bytes
    with pytest.raises(MessageError):
        decode_reply(longer)


@pytest.mark.parametrize("number", [True, -1, "a", None, CBORSimpleValue(0), 2**64, b"a"])
def test_what_is_no_number_of_64_bits_is_left_to_the_general_encoder(number: object) -> None:
    for event in ([number, 5], [5, number]):
        message = Events((event,))
        raw = dumps([messages._EVENTS, [event]])
        assert encode(message) == raw
        assert decode_reply(raw) == message
