"""The store: what is kept, what is offered, damage, dates, several processes; and bundles."""

import json
import multiprocessing
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation import Collateral, CollateralUnavailable, Kind, MalformedEvidence
from attestation.collateral_store import (
    FORMAT,
    Freshness,
    Item,
    Store,
    default_directory,
    describe,
    read_bundle,
    write_atomically,
    write_bundle,
)
from attestation.encoding import b64url_encode, canonical
from tests.shared import shared

from . import snp_maker
from .nvidia_maker import Device, Publisher
from .store_writer import fill
from .tdx_cases import load

JUNE, SEPTEMBER = datetime(2025, 6, 25, tzinfo=UTC), datetime(2025, 9, 25, tzinfo=UTC)
DEVICE = Device()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def item(kind: Kind, name: str = "tdx/v4-uptodate") -> Item:
    """The item of `kind` of a published TDX case."""
    return Item(kind, load(name).collateral.of(kind)[0])


def root(*path: str) -> bytes:
    return shared("evidence", "_roots", *path).read_bytes()


def examples() -> Iterator[tuple[Item, str]]:
    """An item of every kind, and a word of what it is about."""
    case = load("tdx/v4-uptodate").collateral
    about = {
        Kind.INTEL_TCB_INFO: "TDX b0c06f000000",
        Kind.INTEL_QE_IDENTITY: "TD_QE",
        Kind.INTEL_PCK_CRL: "Intel SGX PCK Platform CA",
        Kind.INTEL_ROOT_CRL: "Intel SGX Root CA",
        Kind.INTEL_TCB_SIGNING_CHAIN: "Intel SGX TCB Signing",
    }
    for kind, word in about.items():
        yield Item(kind, case.of(kind)[0]), word
    chain = case.of(Kind.INTEL_TCB_SIGNING_CHAIN)[0]
    yield Item(Kind.INTEL_PCK_CRL_CHAIN, chain), "Intel"
    yield Item(Kind.AMD_CERTIFICATE, root("amd", "turin_ask.pem")), "SEV-Turin"
    yield Item(Kind.AMD_CRL, root("amd", "milan_ark_crl.pem")), "ARK-Milan"
    yield Item(Kind.NVIDIA_RIM, Publisher().rim({0: ["11" * 48]})), "GH100 550.90.07"
    yield Item(Kind.NVIDIA_OCSP, DEVICE.ocsp(2)), f"{DEVICE.parties[2].certificate.serial_number:x}"
    keys = root("azure", "maa_sharedweu_jwks.json")
    yield Item(Kind.AZURE_MAA_KEYS, keys), ""
    yield Item(Kind.NVIDIA_NRAS_KEYS, keys), ""
    yield Item(Kind.TPM_CERTIFICATE, root("azure", "azure_tpm_root_2023.pem")), "Azure"


def test_every_kind_is_described_and_refuses_what_is_not_of_its_form() -> None:
    seen = set()
    for each, word in examples():
        seen.add(each.kind)
        assert word in describe(*each).subject
        for raw in (b"", b"\x30", b"{}", each.raw[:-30], b"x" + each.raw):
            with pytest.raises(MalformedEvidence):
                describe(each.kind, raw)
    assert seen == set(Kind)


@given(kind=st.sampled_from(list(Kind)), raw=st.binary(max_size=200))
def test_no_bytes_escape_the_description(kind: Kind, raw: bytes) -> None:
    with suppress(MalformedEvidence):
        describe(kind, raw)


def test_a_vcek_is_described_by_chip_and_tcb() -> None:
    vcek = snp_maker.line("Genoa").vcek()
    facts = describe(Kind.AMD_CERTIFICATE, vcek.der)
    assert facts.subject.startswith("SEV-VCEK Genoa ")
    assert facts.issuer == "SEV-Genoa"


def test_what_is_kept_comes_back_and_nothing_else_is_made(store: Store) -> None:
    assert list(store.entries()) == []
    assert store.collateral(JUNE) == Collateral()
    assert not store.directory.exists()
    kept = store.put(item(Kind.INTEL_TCB_INFO))
    assert list(store.entries()) == [kept]
    assert store.collateral(JUNE).of(Kind.INTEL_TCB_INFO) == (kept.item.raw,)
    path = store.directory / "items" / "intel.tcb-info" / kept.item.digest
    assert path.read_bytes() == kept.item.raw
    assert store.problems == []


def test_what_has_not_the_form_of_its_kind_is_not_kept(store: Store) -> None:
    for raw in (b"{}", item(Kind.INTEL_QE_IDENTITY).raw, bytes(5 * 1024 * 1024)):
        with pytest.raises(MalformedEvidence):
            store.put(Item(Kind.INTEL_TCB_INFO, raw))
    assert list(store.entries()) == []


def test_an_expired_item_is_kept_and_not_offered(store: Store) -> None:
    kept = store.put(item(Kind.INTEL_TCB_INFO))
    before, after = JUNE - timedelta(days=30), JUNE + timedelta(days=30)
    assert kept.facts.freshness(after) is Freshness.EXPIRED
    assert kept.facts.freshness(before) is Freshness.NOT_YET
    for now in (before, after):
        assert store.collateral(now) == Collateral()
        assert len(list(store.entries())) == 1
    facts = kept.facts
    assert facts.not_before is not None
    assert facts.not_after is not None
    assert facts.freshness(facts.not_before) is facts.freshness(facts.not_after) is Freshness.FRESH
    assert facts.freshness(facts.not_after + timedelta(seconds=1)) is Freshness.EXPIRED


def test_of_two_that_say_the_same_the_newest_is_offered(store: Store) -> None:
    line = snp_maker.line("Genoa")
    days = timedelta(days=40), timedelta(days=10)
    old, new = (Item(Kind.NVIDIA_OCSP, DEVICE.ocsp(2, this_update=JUNE - each)) for each in days)
    other = Item(Kind.NVIDIA_OCSP, DEVICE.ocsp(3, this_update=JUNE - days[0]))
    for each in (new, old, other):
        store.put(each)
    store.put(Item(Kind.AMD_CERTIFICATE, line.ask.der))
    found = store.collateral(JUNE + timedelta(days=1))
    assert set(found.of(Kind.NVIDIA_OCSP)) == {new.raw, other.raw}
    assert len(list(store.entries())) == 4


@pytest.mark.parametrize("damage", [b"", b"damaged", None])
def test_damage_is_seen_told_and_mended(store: Store, damage: bytes | None) -> None:
    kept = store.put(item(Kind.INTEL_TCB_INFO))
    store.record("question", [kept.item], JUNE)
    path = store.directory / "items" / "intel.tcb-info" / kept.item.digest
    path.write_bytes(kept.item.raw + b" " if damage is None else damage)
    assert store.collateral(JUNE) == Collateral()
    assert "damaged" in store.problems[0]
    assert str(path) in store.problems[0]
    assert store.answer("question", JUNE) == ()
    store.put(kept.item)
    assert store.answer("question", JUNE) == (kept.item,)


def test_an_item_under_another_kind_is_passed_over(store: Store) -> None:
    kept = store.put(item(Kind.INTEL_TCB_INFO))
    stray = store.directory / "items" / "amd.crl" / kept.item.digest
    write_atomically(stray, kept.item.raw)
    write_atomically(store.directory / "items" / "amd.crl" / "README", b"text")
    assert [entry.item.kind for entry in store.entries()] == [Kind.INTEL_TCB_INFO]
    assert "not amd.crl" in store.problems[0]


def test_answers_are_by_question_and_only_while_all_is_fresh(store: Store) -> None:
    items = [item(Kind.INTEL_TCB_INFO), item(Kind.INTEL_TCB_SIGNING_CHAIN)]
    store.record("question", items, JUNE)
    assert store.answer("question", JUNE) == tuple(items)
    assert store.answer("another", JUNE) == ()
    assert store.answer("question", SEPTEMBER) == ()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"asked":"question","at":0,"items":[["amd.crl"]]}',
        b'{"asked":"question","at":0,"items":[["amd.crl","../../../etc/passwd"]]}',
        b'{"asked":"question","at":0,"items":[["../amd.crl","' + b"0" * 64 + b'"]]}',
        b'{"asked":"question","at":0,"items":[["amd.crl","' + b"0" * 64 + b'"]]}',
        b'{"asked":"other","at":0,"items":[]}',
    ],
)
def test_a_damaged_answer_is_no_answer(store: Store, raw: bytes) -> None:
    store.record("question", [item(Kind.INTEL_TCB_INFO)], JUNE)
    (path,) = (store.directory / "answers").iterdir()
    path.write_bytes(raw)
    assert store.answer("question", JUNE) == ()


def test_a_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("attestation.collateral_store.files.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_processes_share_a_store(store: Store) -> None:
    items = [item(kind) for kind in (Kind.INTEL_TCB_INFO, Kind.INTEL_QE_IDENTITY)]
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=fill, args=(store.directory, items, JUNE)) for _ in range(2)]
    for each in writers:
        each.start()
    while any(each.is_alive() for each in writers):
        assert len(store.answer("question", JUNE)) in (0, 1)
        writers[0].join(0.02)
    for each in writers:
        each.join()
    assert [each.exitcode for each in writers] == [0, 0]
    assert store.problems == []
    assert {entry.item for entry in store.entries()} == set(items)
    assert len(store.answer("question", JUNE)) == 1


def test_the_default_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "cloister" / "collateral"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_directory() == tmp_path / "home" / ".cache" / "cloister" / "collateral"


# Bundles


def test_a_bundle_is_canonical_and_comes_back() -> None:
    collateral = load("tdx/v4-uptodate").collateral
    raw = write_bundle(collateral)
    assert dict(read_bundle(raw).items) == dict(collateral.items)
    assert canonical(json.loads(raw)) == raw
    assert json.loads(raw)["format"] == FORMAT == "cloister/collateral/v1"


@given(st.dictionaries(st.sampled_from(list(Kind)), st.lists(st.binary(max_size=40), min_size=1, max_size=5)))
def test_what_is_bundled_is_read(table: dict[Kind, list[bytes]]) -> None:
    collateral = Collateral(MappingProxyType({kind: tuple(found) for kind, found in table.items()}))
    raw = write_bundle(collateral)
    assert dict(read_bundle(raw).items) == dict(collateral.items)
    assert write_bundle(read_bundle(raw)) == raw


@given(st.binary(max_size=100))
def test_other_bytes_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEvidence):
        read_bundle(raw)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table | {"format": "cloister/collateral/v2"},
        lambda table: table | {"more": 1},
        lambda table: table | {"items": []},
        lambda table: table | {"items": {"amd.unknown": []}},
        lambda table: table | {"items": {"amd.crl": ["AA=="]}},
        lambda table: table | {"items": {"amd.crl": ["AA"] * 65}},
        lambda table: {"items": table["items"]},
    ],
)
def test_a_bundle_of_another_form_is_malformed(change: object) -> None:
    assert callable(change)
    table = {"format": FORMAT, "items": {"amd.crl": [b64url_encode(b"x")]}}
    read_bundle(canonical(table))
    with pytest.raises(MalformedEvidence):
        read_bundle(canonical(change(table)))
    with pytest.raises(MalformedEvidence):
        read_bundle(canonical(table) + b"\n")


def test_more_than_a_verification_takes_is_not_bundled() -> None:
    many = Collateral({Kind.AMD_CERTIFICATE: tuple(bytes([n]) for n in range(33))})
    with pytest.raises(CollateralUnavailable, match="name the evidence"):
        write_bundle(many)
    write_bundle(Collateral({Kind.AMD_CERTIFICATE: many.of(Kind.AMD_CERTIFICATE)[:32]}))
    with pytest.raises(CollateralUnavailable, match="exceeds"):
        write_bundle(Collateral({Kind.NVIDIA_RIM: (bytes(13 * 1024 * 1024),)}))
