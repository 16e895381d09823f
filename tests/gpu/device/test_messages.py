"""Messages between worker and device: what parses encodes to the same bytes; nothing but the named error."""

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.engine.interface import (
    EmbeddingEvent,
    EmbeddingRequest,
    EngineOptions,
    EngineStats,
    Event,
    GenerationRequest,
    Priority,
    Sampling,
    TokenEvent,
)
from enclave.gpu.device import messages
from enclave.gpu.device.codec import MessageError, codec
from enclave.gpu.device.messages import (
    Cancel,
    Done,
    Embed,
    Erase,
    Failed,
    GetStats,
    LoadAdapter,
    Loaded,
    LoadEncoder,
    LoadModel,
    Prepare,
    ReadFile,
    Stats,
    Step,
    Submit,
    UnloadAdapter,
    decode_command,
    decode_reply,
    encode,
    pack_events,
    unpack_events,
)

TOKENS = st.lists(st.integers(0, 2**31), min_size=1, max_size=20).map(tuple)
SIZES = st.dictionaries(st.text(max_size=9), st.integers(0, 2**60), max_size=4)
FLOATS = st.floats(allow_nan=False)
SAMPLING = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    top_p=st.floats(0.1, 1),
    top_k=st.integers(0, 99),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    frequency_penalty=st.floats(-2, 2),
    logit_bias=st.lists(st.tuples(st.integers(0, 99), st.floats(-100, 100)), max_size=3).map(tuple),
)
REQUESTS = st.builds(
    GenerationRequest,
    id=st.text(max_size=9),
    prompt=TOKENS,
    sampling=SAMPLING,
    max_tokens=st.integers(1, 10**6),
    eos=st.frozensets(st.integers(0, 99), max_size=3),
    adapter=st.none() | st.text(max_size=9),
    tenant=st.text(max_size=9),
    priority=st.sampled_from(Priority),
    share=st.none() | st.binary(min_size=32, max_size=32),
    grammar=st.none() | st.text(max_size=20),
    logprobs=st.none() | st.integers(0, 20),
)
COMMANDS: st.SearchStrategy[Any] = st.one_of(
    st.builds(LoadModel, st.text(max_size=9), SIZES, st.builds(EngineOptions)),
    st.builds(LoadAdapter, st.text(max_size=9), st.text(max_size=9), SIZES),
    st.builds(LoadEncoder, st.text(max_size=9), st.text(max_size=9), SIZES),
    st.builds(UnloadAdapter, st.text(max_size=9)),
    st.builds(Prepare, REQUESTS),
    st.builds(Submit, REQUESTS),
    st.builds(Embed, st.builds(EmbeddingRequest, id=st.text(), prompt=TOKENS, encoder=st.text(max_size=9))),
    st.builds(Cancel, st.integers(0, 2**40)),
    st.sampled_from([Step(), GetStats(), Erase()]),
)
NAMES = st.frozensets(st.text(max_size=5), max_size=3)
REPLIES: st.SearchStrategy[Any] = st.one_of(
    st.just(Done()),
    st.builds(Loaded, st.integers(0, 9**9), NAMES, NAMES, st.booleans(), st.text(max_size=9)),
    st.builds(Stats, st.builds(EngineStats, running=st.integers(0, 99), steps=st.integers(0, 2**50))),
    st.builds(Failed, st.text(max_size=9), st.text(max_size=9), st.none() | FLOATS),
    st.builds(ReadFile, st.text(max_size=9), st.integers(0, 2**60), st.integers(1, 2**30)),
)
EVENTS = st.one_of(
    st.builds(TokenEvent, id=st.just("1"), token=st.integers(0, 2**31)),
    st.builds(
        TokenEvent,
        id=st.just("2"),
        token=st.none() | st.integers(0, 99),
        finish=st.sampled_from(["stop", "length", "cancelled", "error"]),
        error=st.none() | st.text(max_size=9),
        logprob=st.none() | FLOATS,
        top=st.lists(st.tuples(st.integers(0, 99), FLOATS), max_size=2).map(tuple),
    ),
    st.builds(EmbeddingEvent, id=st.just("3"), vector=st.none() | st.lists(FLOATS, max_size=9).map(tuple)),
)
CBOR: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.text(max_size=5) | st.binary(max_size=5) | FLOATS,
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=20,
)


@given(COMMANDS)
def test_commands_come_back_as_they_were(command: Any) -> None:
    assert decode_command(encode(command)) == command


@given(REPLIES)
def test_replies_come_back_as_they_were(reply: Any) -> None:
    assert decode_reply(encode(reply)) == reply


@given(st.lists(EVENTS, max_size=6))
def test_events_come_back_with_their_own_ids(events: list[Event]) -> None:
    ids = {1: "first", 2: "second", 3: "third"}
    packed = decode_reply(encode(pack_events(events)))
    assert isinstance(packed, messages.Events)
    found = unpack_events(packed, ids)
    assert [number for number, _ in found] == [int(event.id) for event in events]
    assert [event.id for _, event in found] == [ids[int(event.id)] for event in events]
    kept = [codec(type(event)).encode(event)[1:] for event in events]
    assert [codec(type(event)).encode(event)[1:] for _, event in found] == kept


@given(st.binary(max_size=60) | CBOR.map(cbor2.dumps) | st.tuples(st.integers(0, 20), CBOR).map(
    lambda pair: cbor2.dumps([pair[0], *(pair[1] if isinstance(pair[1], list) else [pair[1]])])
))  # fmt: skip
def test_any_bytes_are_a_message_or_the_named_error(raw: bytes) -> None:
    for decode in (decode_command, decode_reply):
        try:
            message = decode(raw)
        except MessageError:
            continue
        assert encode(message) == raw
        if isinstance(message, messages.Events):
            try:
                unpack_events(message, {1: "one"})
            except MessageError:
                continue


@pytest.mark.parametrize(
    "raw",
    ["8109ff", "1801", "9f09ff", "811809", "8200", "a0", "c11a00000000", "81d82a40", "f7", ""],
)
def test_cbor_in_another_form_or_of_other_types_is_refused(raw: str) -> None:
    with pytest.raises(MessageError):
        decode_command(bytes.fromhex(raw))


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1), (0, 0)])
def test_a_range_that_no_file_has_is_refused(offset: int, length: int) -> None:
    raw = cbor2.dumps([*cbor2.loads(encode(ReadFile("f", 1, 1)))[:2], offset, length])
    with pytest.raises(MessageError, match="ReadFile: a range"):
        decode_reply(raw)


def test_an_event_of_a_request_that_does_not_run_is_refused() -> None:
    with pytest.raises(MessageError, match="does not run"):
        unpack_events(pack_events([TokenEvent(id="9", token=1)]), {1: "a"})


def test_contents_do_not_show_in_representations() -> None:
    request = GenerationRequest(
        id="r", prompt=(4711,), sampling=Sampling(), max_tokens=1, eos=frozenset(), tenant="somebody"
    )
    assert "4711" not in repr(Submit(request)) and "somebody" not in repr(Submit(request))
    assert "4711" not in repr(pack_events([TokenEvent(id="1", token=4711)]))
