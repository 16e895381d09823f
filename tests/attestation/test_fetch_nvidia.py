"""NVIDIA's RIM service and OCSP responder: ids from reports, manifests in JSON, nonces that must match."""

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from attestation import Collateral, Kind
from attestation.context import Context
from attestation.fetch import Fetched, Patience, fetch, plan, recognise
from attestation.nvidia import appraise

from . import nvidia
from .collateral_server import Vendor, running
from .nvidia_maker import END, NAMES, NONCE, NOW, Device, Party, Publisher, roots

DEVICE = Device()
BOARD: dict[str, Any] = {"PROJECT": b"1010\0", "PROJECT_SKU": b"0200\0", "CHIP_SKU": b"882\0"}
REPORT = DEVICE.report(**BOARD)
DRIVER, VBIOS = "NV_GPU_DRIVER_GH100_550.90.07", "NV_GPU_VBIOS_1010_0200_882_96005E0001"
MAKER = Publisher()
DRIVER_RIM = MAKER.rim({0: [(bytes([1]) * 48).hex()]})
VBIOS_RIM = MAKER.rim({1: [(bytes([2]) * 48).hex()]}, version="96.00.5E.00.01")


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    found = Vendor()
    found.routes["/"] = responder()
    found.serve(f"/v1/rim/{DRIVER}", answer(DRIVER, DRIVER_RIM))
    found.serve(f"/v1/rim/{VBIOS}", answer(VBIOS, VBIOS_RIM))
    with running(found):
        yield found


def answer(name: str, manifest: bytes, **changes: Any) -> bytes:
    """The RIM service's JSON for a manifest."""
    table = {
        "id": name,
        "rim": base64.b64encode(manifest).decode(),
        "sha256": hashlib.sha256(manifest).hexdigest(),
        "last_updated": "2025-03-14T15:09:03.011000",
        "rim_format": "TCG",
        "request_id": "1",
    } | changes
    return json.dumps({key: value for key, value in table.items() if value is not None}).encode()


def responder(*, nonce: bytes | None = b"", about: Party | None = None, **facts: Any) -> Any:
    """A responder for every party; `nonce` instead of the one asked, None for none at all."""
    parties = [*DEVICE.parties, *MAKER.parties]
    above = {party.certificate.serial_number: party for party in parties}
    issuers = {party.certificate.subject.public_bytes(): party for party in parties}

    async def reply(request: web.Request) -> web.Response:
        asked = ocsp.load_der_ocsp_request(await request.read())
        given = asked.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
        party = about or above[asked.serial_number]
        by = issuers[party.certificate.issuer.public_bytes()]
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=party.certificate,
            issuer=by.certificate,
            algorithm=hashes.SHA384(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=facts.get("this_update", NOW),
            next_update=facts.get("next_update", END),
            revocation_time=None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, by.certificate)
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce or given), critical=False)
        body = builder.sign(by.key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)
        return web.Response(body=body)

    return reply


async def get(vendor: Vendor, *documents: bytes, **options: Any) -> Fetched:
    found = recognise(documents or (REPORT, DEVICE.chain))
    patience = Patience(timeout=5, attempts=1)
    return await fetch(found, now=NOW, services=vendor.services, patience=patience, **options)


def asked(*documents: bytes) -> list[str]:
    return [f"{each.service} {each.target}" for each in plan(recognise(documents)).requests]


async def test_a_device_gets_manifests_and_a_status_for_each_certificate_but_leaf_and_root(
    vendor: Vendor,
) -> None:
    made = await get(vendor)
    collateral = made.require()
    assert set(collateral.of(Kind.NVIDIA_RIM)) == {DRIVER_RIM, VBIOS_RIM}
    assert len(collateral.of(Kind.NVIDIA_OCSP)) == 4  # three of the device's, one manifest signer
    serials = {ocsp.load_der_ocsp_response(raw).serial_number for raw in collateral.of(Kind.NVIDIA_OCSP)}
    signers = [*DEVICE.parties[1:4], MAKER.parties[1]]
    assert serials == {party.certificate.serial_number for party in signers}
    assert all(request.method == "POST" for request in vendor.asked if request.path == "/")


async def test_what_is_fetched_satisfies_the_verifier(vendor: Vendor) -> None:
    def judged(collateral: Collateral) -> bool:
        trusted = roots(device_identity_ca=DEVICE.parties[0], corim_signing_root_ca=MAKER.parties[0])
        rules = nvidia.policy(trusted, allow_missing_ocsp=False, **nvidia.RIMS)
        context = Context(policy=rules, collateral=collateral, now=NOW)
        sheet = appraise(REPORT, DEVICE.chain, context, subject="gpu0", nonce=NONCE)
        return nvidia.accepted(sheet, at=NOW)

    assert judged((await get(vendor)).require())
    assert not judged(Collateral())


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("h100-535", ["NV_GPU_DRIVER_GH100_535.86.09", "NV_GPU_VBIOS_1010_0200_882_96005E0001"]),
        ("h100-590-ppcie", ["NV_GPU_DRIVER_GH100_590.12", "NV_GPU_VBIOS_G520_0200_885_9600A50001"]),
        ("b200-575", ["NV_GPU_CC_DRIVER_GB100_575.32", "NV_GPU_VBIOS_G525_0220_886_970088000F"]),
    ],
)
def test_genuine_reports_name_their_manifests(name: str, ids: list[str]) -> None:
    case = nvidia.case(f"nvidia-gpu/{name}")
    assert asked(case.report, case.chain)[:2] == [f"nvidia-rim /v1/rim/{each}" for each in ids]
    assert len(asked(case.report, case.chain)) == 5
    assert len(asked(case.chain)) == 3


def test_a_blackwell_s_driver_is_named_by_the_chip_that_it_reports() -> None:
    device = Device(chip="GB100")
    named = asked(device.report(CHIP_INFO=b"GB20X\0", **BOARD), device.chain)
    assert named[0] == "nvidia-rim /v1/rim/NV_GPU_CC_DRIVER_GB20X_550.90.07"


def test_a_switch_has_one_manifest() -> None:
    switch = Device(chip="LS10")
    report = switch.report(DRIVER_VERSION=None, **BOARD)
    assert asked(report, switch.chain)[0] == "nvidia-rim /v1/rim/NV_SWITCH_BIOS_1010_0200_882_96005E0001"
    assert len(asked(report, switch.chain)) == 4


@pytest.mark.parametrize(
    "opaque",
    [
        {"DRIVER_VERSION": b"../../ids\0"},
        {"DRIVER_VERSION": b"1?x=y\0"},
        {"PROJECT": b"a/b\0"},
        {"PROJECT": b"\0"},
        {"PROJECT": None},
        {"DRIVER_VERSION": None},
    ],
)
def test_what_a_device_says_does_not_lead_elsewhere(opaque: dict[str, Any]) -> None:
    report = DEVICE.report(**(BOARD | opaque))
    made = plan(recognise([report, DEVICE.chain]))
    assert len(made.gaps) == 1
    assert len(made.requests) == 3  # the status of the chain


def test_a_report_without_its_chain_does_not_say_its_chip() -> None:
    made = plan(recognise([REPORT]))
    assert "chain" in str(made.gaps[0])
    assert not made.requests


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": VBIOS}, "not the manifest"),
        ({"rim": None}, "not the manifest"),
        ({"rim": 1}, "not the manifest"),
        ({"rim": "%%%"}, "not base64"),
        ({"rim": "ä"}, "not base64"),
        ({"rim": base64.b64encode(b"<x/>").decode(), "sha256": None}, "not what was asked for"),
        ({"rim_format": "CORIM"}, "format 'CORIM'"),
        ({"sha256": "00" * 32}, "another SHA-256"),
    ],
)
async def test_wrong_manifests_are_refused(vendor: Vendor, changes: dict[str, Any], words: str) -> None:
    vendor.serve(f"/v1/rim/{DRIVER}", answer(DRIVER, DRIVER_RIM, **changes))
    (failure,) = (await get(vendor)).failures
    assert f"/v1/rim/{DRIVER}: the answer is not what was asked for" in str(failure)
    assert words in str(failure)


async def test_a_missing_manifest_does_not_keep_the_rest(vendor: Vendor) -> None:
    del vendor.routes[f"/v1/rim/{VBIOS}"]
    made = await get(vendor)
    assert [f"{VBIOS}: it does not have this" in str(each) for each in made.failures] == [True]
    assert len(made.answers) == 5


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"nonce": bytes(32)}, "nonce is not the one"),
        ({"nonce": None}, "no nonce"),
        ({"about": DEVICE.parties[4]}, "not about the certificate"),
        ({"next_update": NOW - timedelta(hours=1), "this_update": NOW - timedelta(days=1)}, "stale"),
        ({"this_update": NOW + timedelta(days=1)}, "not yet valid"),
        ({"next_update": None, "this_update": NOW - timedelta(hours=1)}, "stale"),
    ],
)
async def test_wrong_responses_are_refused(vendor: Vendor, facts: dict[str, Any], words: str) -> None:
    vendor.routes["/"] = responder(**facts)
    made = await get(vendor, DEVICE.chain)
    assert not made.answers
    assert len(made.failures) == 3
    assert all(words in str(each) for each in made.failures)


async def test_refusals_and_garbage_are_no_status(vendor: Vendor) -> None:
    refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    for body in (refusal.public_bytes(serialization.Encoding.DER), b"", b"\x30\x00", b"<html>"):
        vendor.serve("/", body)
        made = await get(vendor, DEVICE.chain)
        assert len(made.failures) == 3


async def test_every_request_has_a_nonce_of_its_own(vendor: Vendor) -> None:
    seen: list[bytes] = []
    good = responder()

    async def reply(request: web.Request) -> web.Response:
        question = ocsp.load_der_ocsp_request(await request.read())
        seen.append(question.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce)
        answered: web.Response = await good(request)
        return answered

    vendor.routes["/"] = reply
    for _ in range(2):
        await get(vendor, DEVICE.chain)
    assert len(set(seen)) == len(seen) == 6
    assert {len(each) for each in seen} == {32}


def test_names_of_parties_are_those_expected() -> None:
    assert len(DEVICE.parties) == len(NAMES) == 5
