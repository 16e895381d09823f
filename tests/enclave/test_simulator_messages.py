"""The protocol between worker and security processor: strict, total, and one question at a time."""

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave.simulator import messages
from enclave.simulator.answering import Attendant
from enclave.simulator.chip import SnpProcessor
from enclave.simulator.messages import (
    CollateralRequest,
    DeviceChain,
    Frames,
    Kind,
    MessageError,
    Refused,
    Request,
    ResetDevice,
    SnpReportRequest,
)
from enclave.tee.interface import EvidenceUnavailable
from enclave.tee.simulated import ProcessorLink, SimulatedCpu
from tests.enclave.simulation import MEASUREMENT, NOW, attended, gpu, processor

PROCESSOR = processor(SnpProcessor(MEASUREMENT, clock=lambda: NOW), [gpu()])
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(SnpReportRequest, st.binary(min_size=64, max_size=64), st.integers(0, 255)),
    st.builds(DeviceChain, st.integers(0, 255), st.binary(min_size=1, max_size=99)),
    st.builds(ResetDevice, st.integers(0, 255)),
    st.just(CollateralRequest()),
)


@given(REQUESTS)
def test_requests_come_back_as_they_were(request: Request) -> None:
    (content,) = Frames(messages.MAX_REQUEST).feed(messages.encode_request(request))
    assert messages.decode_request(content) == request


@given(st.binary(max_size=200))
def test_what_parses_as_a_request_encodes_to_the_same_bytes(content: bytes) -> None:
    try:
        request = messages.decode_request(content)
    except MessageError:
        return
    assert messages.encode_request(request)[messages.HEADER :] == content


@given(st.sampled_from(Kind), st.lists(st.binary(max_size=64), max_size=8))
def test_replies_come_back_as_they_were(kind: Kind, parts: list[bytes]) -> None:
    (content,) = Frames(messages.MAX_REPLY).feed(messages.encode_reply(kind, tuple(parts)))
    assert messages.decode_reply(content, kind) == tuple(parts)


@given(st.binary(max_size=128))
def test_any_reply_is_parts_a_refusal_or_a_named_error(content: bytes) -> None:
    with contextlib.suppress(Refused, MessageError):
        messages.decode_reply(content, Kind.SNP_REPORT)


@given(st.lists(REQUESTS, max_size=4), st.integers(1, 40))
def test_frames_do_not_depend_on_how_the_stream_is_cut(requests: list[Request], size: int) -> None:
    stream = b"".join(map(messages.encode_request, requests))
    frames = Frames(messages.MAX_REQUEST)
    found = [content for i in range(0, len(stream), size) for content in frames.feed(stream[i : i + size])]
    assert [messages.decode_request(content) for content in found] == requests


@pytest.mark.parametrize(
    "frame", [bytes(4), b"\xff\xff\xff\xff", (messages.MAX_REQUEST + 1).to_bytes(4, "big")]
)
def test_empty_and_overlong_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(MessageError):
        Frames(messages.MAX_REQUEST).feed(frame)


@given(st.binary(max_size=200))
def test_the_processor_answers_whatever_it_is_asked(content: bytes) -> None:
    (answer,) = Frames(messages.MAX_REPLY).feed(PROCESSOR.answer(content))
    assert answer


@pytest.mark.parametrize(
    "request_",
    [SnpReportRequest(bytes(64), vmpl=4), ResetDevice(1), DeviceChain(0, b"PEM")],
    ids=["a level that does not exist", "a device that does not exist", "a chain from a worker"],
)
def test_what_it_cannot_do_is_refused_with_a_reason(request_: Request) -> None:
    content = messages.encode_request(request_)[messages.HEADER :]
    with pytest.raises(Refused, match=r"vmpl|device|chain"):
        messages.decode_reply(PROCESSOR.answer(content)[messages.HEADER :], messages.kind_of(request_))


def test_a_refusal_leaves_the_link_open() -> None:
    with attended(PROCESSOR) as end:
        link = ProcessorLink(end)
        with pytest.raises(EvidenceUnavailable, match="no device 5"):
            link.reset(5)
        assert len(SimulatedCpu(link).report(bytes(64)).report) == 1184


def test_garbage_ends_the_connection_and_not_the_processor() -> None:
    with attended(PROCESSOR) as end:
        end.sendall(b"\xff" * 64)
        assert end.recv(1) == b""
    assert PROCESSOR.answer(b"\x03")


def test_a_processor_that_hangs_up_is_evidence_unavailable_with_a_remedy() -> None:
    ours, theirs = socket.socketpair()
    link = ProcessorLink(theirs)
    ours.close()
    for _ in range(2):
        with pytest.raises(EvidenceUnavailable, match="restart"):
            SimulatedCpu(link).report(bytes(64))


def test_a_processor_that_is_silent_times_out_and_the_link_stays_closed() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        link = ProcessorLink(theirs, timeout=0.05)
        with pytest.raises(EvidenceUnavailable, match="restart"):
            SimulatedCpu(link).report(bytes(64))
        with pytest.raises(BrokenPipeError):
            ours.sendall(messages.encode_reply(Kind.SNP_REPORT, (b"late",)))
        with pytest.raises(EvidenceUnavailable, match="restart"):
            SimulatedCpu(link).report(bytes(64))


def test_a_reply_to_another_question_closes_the_link() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(messages.encode_reply(Kind.COLLATERAL, (b"crl",)))
        with pytest.raises(EvidenceUnavailable, match="restart"):
            SimulatedCpu(ProcessorLink(theirs)).report(bytes(64))


def test_an_attendant_closes_at_the_end_of_the_stream() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    assert Attendant(ours, PROCESSOR).attend() is False
    assert ours.fileno() == -1
