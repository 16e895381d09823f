"""Event logs replay to the registers that the quote signs, or the check fails."""

import gzip
import hashlib
import json
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation import MalformedEvidence, tdx
from attestation.tdx.event_log import DSTACK_RUNTIME_EVENT, MAX_LOG, Event, EventLog, runtime_digest
from attestation.verdict import Sheet

from ..shared import shared
from .tdx_cases import Case, context, load, outcome, tdx_rules, verdict
from .tdx_machine import Platform
from .tdx_pki import NOW

CCEL, DSTACK = "tdx/v4-gcp-ccel", "tdx/v4-dstack-eventlog"


def appraise(case: Case, log: bytes | None, **keys: Any) -> Sheet:
    return tdx.appraise(
        case.quote, case.context(tdx_rules(**keys)), subject="cpu0", report_data=None, event_log=log
    )


def log_of(case: Case) -> bytes:
    assert case.event_log is not None
    return case.event_log


def plain_ccel() -> bytes:
    return gzip.decompress(log_of(load(CCEL)))


def dstack_events() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(log_of(load(DSTACK)))
    return found


@pytest.mark.parametrize(("name", "form", "count"), [(CCEL, "ccel", 43), (DSTACK, "dstack", 28)])
def test_genuine_logs_replay(name: str, form: str, count: int) -> None:
    case = load(name)
    sheet = appraise(case, case.event_log)
    assert outcome(sheet, "tdx.event-log") == "pass"
    assert (sheet.claims["event_log"]["form"], sheet.claims["event_log"]["events"]) == (form, count)
    assert verdict(sheet, case.now).accepted


def test_a_log_may_come_inflated() -> None:
    assert EventLog.from_bytes(plain_ccel()) == EventLog.from_bytes(log_of(load(CCEL)))


def test_a_dstack_log_without_runtime_digests() -> None:
    """Newer logs leave out the digests of RTMR3; an older one of another host has them."""
    case, events = load(DSTACK), dstack_events()
    for event in events:
        if event["event_type"] == DSTACK_RUNTIME_EVENT:
            del event["digest"]
    assert outcome(appraise(case, json.dumps(events).encode()), "tdx.event-log") == "pass"
    folder = shared("evidence", "composite", "dstack-tdx-8x-h200")
    quote = tdx.Quote.from_bytes((folder / "quote.bin").read_bytes())
    report = tdx.TdReport.from_bytes(quote.body_type, quote.body)
    log = EventLog.from_bytes((folder / "event_log.json").read_bytes())
    assert log.replay() == report.rtmrs and not log.faults


def test_runtime_events_are_claims_only_if_they_replay() -> None:
    case, events = load(DSTACK), dstack_events()
    claims = appraise(case, case.event_log).claims["event_log"]
    assert ["app-id", "3763bc34552cf3a27ff71ad5f7a90471562a1a2d"] in claims["runtime"]
    app = next(event for event in events if event["event"] == "app-id")
    app["event_payload"] = "00" * 20
    for digest in (app["digest"], ""):
        app["digest"] = digest
        sheet = appraise(case, json.dumps(events).encode())
        assert outcome(sheet, "tdx.event-log") == "fail" and "event_log" not in sheet.claims


def test_a_supplied_digest_is_not_believed() -> None:
    """The digest still replays, but the payload beside it is another."""
    case, events = load(DSTACK), dstack_events()
    events[-1]["event_payload"] = ""
    assert outcome(appraise(case, json.dumps(events).encode()), "tdx.event-log") == "fail"


@pytest.mark.parametrize("index", [0, 12, 20, 27])
def test_a_log_that_lacks_an_event_or_has_another_order(index: int) -> None:
    case, events = load(DSTACK), dstack_events()
    short = events[:index] + events[index + 1 :]
    assert outcome(appraise(case, json.dumps(short).encode()), "tdx.event-log") == "fail"
    twice = [*events[:index], events[index], *events[index:]]
    assert outcome(appraise(case, json.dumps(twice).encode()), "tdx.event-log") == "fail"


def test_a_changed_byte_in_a_ccel_digest() -> None:
    case, raw = load(CCEL), bytearray(plain_ccel())
    raw[0x50] ^= 1
    assert outcome(appraise(case, bytes(raw)), "tdx.event-log") == "fail"


def test_registers_may_be_left_to_the_policy() -> None:
    case, events = load(DSTACK), dstack_events()
    runtime = json.dumps([event for event in events if event["imr"] == 3]).encode()
    assert outcome(appraise(case, runtime), "tdx.event-log") == "fail"
    sheet = appraise(case, runtime, event_log_registers=["rtmr3"])
    assert outcome(sheet, "tdx.event-log") == "pass"


def test_a_required_log_that_is_missing() -> None:
    case = load("tdx/v5-uptodate")
    found = verdict(appraise(case, None, require_event_log=True), case.now)
    assert found.unevaluable and not found.accepted
    assert verdict(appraise(case, None), case.now).accepted


def test_an_empty_log_explains_empty_registers() -> None:
    platform = Platform()
    surroundings = context(tdx_rules(), platform.collateral(), NOW, platform.roots)
    raw = platform.quote().to_bytes()
    sheet = tdx.appraise(raw, surroundings, subject="cpu0", report_data=None, event_log=b"[]")
    assert verdict(sheet, NOW).accepted


def tcg_log(*events: tuple[int, int, bytes], algorithms: tuple[tuple[int, int], ...] = ((0xC, 48),)) -> bytes:
    """A TCG2 log: specification id and `events` of (register index, type, SHA-384 digest)."""
    sizes = b"".join(a.to_bytes(2, "little") + s.to_bytes(2, "little") for a, s in algorithms)
    body = b"Spec ID Event03\0" + bytes(8) + len(algorithms).to_bytes(4, "little") + sizes + b"\0"
    raw = bytes(4) + b"\x03\0\0\0" + bytes(20) + len(body).to_bytes(4, "little") + body
    for index, kind, digest in events:
        raw += index.to_bytes(4, "little") + kind.to_bytes(4, "little") + b"\x01\0\0\0\x0c\0" + digest
        raw += b"\x02\0\0\0ab"
    return raw


def test_ccel_registers_count_from_mrtd() -> None:
    digest = hashlib.sha384(b"x").digest()
    found = EventLog.from_bytes(tcg_log((1, 4, digest), (4, 4, digest), (1, 3, digest)) + b"\xff" * 64)
    assert found.events == (Event(0, 4, digest), Event(3, 4, digest))
    once = hashlib.sha384(bytes(48) + digest).digest()
    assert found.replay() == (once, bytes(48), bytes(48), once)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]",
        b'[{"imr": 4, "event_type": 1, "digest": ""}]',
        b'[{"imr": true, "event_type": 1, "digest": ""}]',
        b'[{"imr": 0, "event_type": 1, "digest": "00"}]',
        b'[{"imr": 0, "event_type": -1, "digest": ""}]',
        b'[{"imr": 3, "event_type": 134217729, "event": 1}]',
        b'[{"imr": 3, "event_type": 134217729, "event": "a", "event_payload": "zz"}]',
        b'[{"imr": 3, "event_type": 134217729, "event": "a", "event_payload": null}]',
        tcg_log((0, 4, bytes(48))),
        tcg_log((5, 4, bytes(48))),
        tcg_log((1, 4, bytes(47))),
        tcg_log(algorithms=((0xB, 32),)),
        tcg_log(algorithms=((0xC, 32),)),
        tcg_log(algorithms=((0xC, 48),) * 9),
        tcg_log((1, 4, bytes(48)))[:-1],
        tcg_log() + b"\0\0\0\x01",
        b"\x1f\x8b\x08\x00",
        gzip.compress(b"[]")[:-4],
        gzip.compress(b"[]") + b"x",
        gzip.compress(bytes(MAX_LOG + 1)),
        bytes(MAX_LOG + 1),
    ],
)
def test_what_is_no_log(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        EventLog.from_bytes(raw)
    with pytest.raises(MalformedEvidence):
        appraise(load("tdx/v5-uptodate"), raw)


@given(raw=st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_behind_a_genuine_beginning(raw: bytes) -> None:
    for start in (tcg_log(), b"[", b"\x1f\x8b\x08", zlib.compress(b"[]", wbits=31)):
        try:
            EventLog.from_bytes(start + raw).replay()
        except MalformedEvidence:
            continue


def test_the_digest_of_a_runtime_event() -> None:
    event = next(event for event in dstack_events() if event["event"] == "compose-hash")
    found = runtime_digest(event["event_type"], event["event"], bytes.fromhex(event["event_payload"]))
    assert found.hex() == event["digest"]
