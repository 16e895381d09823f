"""TPM formats: what parses re-encodes identically, and nothing but MalformedEvidence escapes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import MalformedEvidence
from attestation.tpm import EventLog, Public, Quote, Signature
from tests.attestation.clouds import case, mutated, parses

FORMATS = [Quote, Public, Signature, EventLog]
FILES = {
    Quote: "quote_sha256.msg",
    Public: "ak_pub.tpmt",
    Signature: "quote_sha256.sig_tpmt",
    EventLog: "event_log.bin",
}


@pytest.mark.parametrize("kind", FORMATS)
@given(raw=st.binary(max_size=300))
def test_arbitrary_bytes(kind: type, raw: bytes) -> None:
    found = parses(kind.from_bytes, raw)  # type: ignore[attr-defined]
    assert found is None or found.to_bytes() == raw


@pytest.mark.parametrize("kind", FORMATS)
@settings(deadline=None)
@given(data=st.data())
def test_mutated_genuine_bytes(kind: type, data: st.DataObject) -> None:
    raw = data.draw(mutated(case("tpm/gce-cos85-nonce9009").must(FILES[kind])))
    found = parses(kind.from_bytes, raw)  # type: ignore[attr-defined]
    if found is None:
        return
    assert found.to_bytes() == raw
    if isinstance(found, EventLog):
        assert all(len(found.replay(bank)) == 24 for bank in found.banks)
    if isinstance(found, Public):
        parses(lambda _: found.key(), raw)


def test_a_quote_that_no_tpm_made_or_for_another_purpose_is_malformed() -> None:
    raw = case("tpm/gce-cos85-nonce9009").must("quote_sha256.msg")
    for start in (b"\0\0\0\0\x80\x18", b"\xffTCG\x80\x17"):
        with pytest.raises(MalformedEvidence):
            Quote.from_bytes(start + raw[6:])


def test_startup_locality_and_no_action_events() -> None:
    log = EventLog.from_bytes(case("tpm/gce-cos85-nonce9009").must("event_log.bin"))
    event = type(log.events[0])(
        pcr=0, kind=3, digests=(bytes(20), bytes(32), bytes(48)), data=b"StartupLocality\0\x03"
    )
    started = EventLog(header=log.header, algorithms=log.algorithms, events=(event,))
    assert started.replay("sha256")[0] == bytes(31) + b"\x03"
    assert started.replay("sha256")[17] == b"\xff" * 32
    assert started.replay("sha512") == {}
