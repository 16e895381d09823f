"""Profiles fail until they are filled in; explanations leave no field and no weakening out."""

import tomllib
from collections.abc import Iterator
from dataclasses import fields
from itertools import combinations
from typing import Any

import pytest

from attestation import Policy, PolicyError
from attestation.policy import SECTIONS
from attestation.policy_guide import GUIDES, TOP, Kind, Writing
from attestation.policy_profiles import Said, explain, profile, section_of, tee_names, unfilled
from attestation.section import Section

H = {size: "11" * size for size in (6, 8, 16, 32, 48, 64)}
MEASURED = f'["{H[48]}"]'
PCRS = f'{{ sha256 = {{ 4 = ["{H[32]}"] }} }}'
FILLS: dict[str, dict[str, str]] = {
    "": {"roots": '["amd"]'},
    "workload": {"software": '["x 1"]', "models": f'["{H[32]}"]'},
    "snp": {"measurements": MEASURED, "chip_ids": f'["{H[64]}"]'}
    | {"products": '["Genoa"]', "minimum_tcb": "{ Genoa = { bl = 1, tee = 0, snp = 1, ucode = 1 } }"},
    "tdx": {f"{name}s": MEASURED for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")}
    | {"minimum_tcb_evaluation_data_number": "17", "ppids": f'["{H[16]}"]'},
    "sgx": {"mrenclaves": f'["{H[32]}"]', "ppids": f'["{H[16]}"]'}
    | {"minimum_tcb_evaluation_data_number": "17"},
    "nvidia_gpu": {"count": "1", "minimum_driver": '"570.1"', "minimum_vbios": '["96.00.5E.00.01"]'}
    | {"devices": f'["{H[32]}"]'},
    "nvidia_switch": {"count": "4", "minimum_vbios": '["96.10.5E.00.01"]', "devices": f'["{H[32]}"]'},
    "azure_vtpm": {"pcrs": PCRS},
    "azure_aci": {"issuers": f'["did:x509:0:sha256:{"A" * 43}::eku:1.3.6.1.4.1.311.76.59.1.2"]'}
    | {"minimum_svn": "100", "security_policies": f'["{H[32]}"]'},
    "maa": {"issuer": '"https://x.attest.azure.net"', "keys": f'["{H[32]}"]', "measurements": MEASURED}
    | {"policy_hashes": '["x"]'},
    "nras": {"count": "1", "key_issuers": f'["{H[32]}"]', "models": '["GH100"]', "ueids": '["1"]'}
    | {"drivers": '["570.1"]', "vbios": '["96.00.5E.00.01"]'},
    "tpm": {"ak_vendors": '["google"]', "pcrs": PCRS, "ak_keys": f'["{H[32]}"]'},
    "nitro": {"pcrs": f'{{ 0 = ["{H[48]}"] }}'},
    "composite": {},
}
TEES = [tee for tee in tee_names() if tee != "composite"]


def filled(text: str, leave: int | None = None) -> str:
    """`text` with its placeholders filled in, but for the one numbered `leave`."""
    section, lines, number = "", [], 0
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        name, mark, value = line.partition(" = ")
        if mark and value.startswith('"FILL-IN') and not name.startswith("#"):
            if number != leave:
                line = f"{name} = {FILLS[section][name]}"
            number += 1
        lines.append(line)
    return "\n".join(lines)


def companions(tee: str) -> list[str]:
    return [tee, "snp"] if tee == "composite" else [tee]


def table(name: str) -> dict[str, Any]:
    """A section that parses, as values."""
    tees = companions(name.replace("_", "-")) if name != "workload" else ["snp"]
    found: dict[str, Any] = tomllib.loads(filled(profile(tees, strict=True)))[name]
    return found


def parsed(name: str, section: dict[str, Any]) -> Policy:
    """A policy with that section alone, or with the one that it needs beside it."""
    made = Policy.from_toml(filled(profile(["snp"])))
    rules = Section(name, section)
    found = SECTIONS[name].parse(rules)
    rules.close()
    values: dict[str, Any] = {item.name: getattr(made, item.name) for item in fields(made)}
    return Policy(**values | {name: found})


def said(policy: Policy, name: str) -> list[Said]:
    return [item for item in explain(policy) if item.section == name]


# ---------------------------------------------------------------------------------------- profiles


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("tee", tee_names())
def test_a_profile_is_refused_until_every_value_is_filled_in(tee: str, strict: bool) -> None:
    text = profile(companions(tee), strict=strict)
    open_ = unfilled(text)
    for number in range(len(open_)):
        with pytest.raises(PolicyError, match=r"FILL-IN|not hexadecimal|https|not a table"):
            Policy.from_toml(filled(text, leave=number))
    policy = Policy.from_toml(filled(text))
    assert getattr(policy, section_of(tee)) is not None
    assert unfilled(filled(text)) == []
    weak = [item for item in explain(policy) if item.kind is Kind.WEAKENED]
    assert not weak, weak


@pytest.mark.parametrize("tee", TEES)
def test_a_strict_profile_leaves_less_open(tee: str) -> None:
    def left_open(strict: bool) -> int:
        found = explain(Policy.from_toml(filled(profile([tee], strict=strict))))
        return sum(item.kind is Kind.OPEN for item in found)

    assert left_open(True) <= left_open(False)
    writes_more = any(key.writing is Writing.STRICT for key in GUIDES[section_of(tee)].keys)
    assert (left_open(True) < left_open(False)) == writes_more


def test_a_simulator_profile_names_no_other_root_and_says_what_it_is() -> None:
    text = profile(["snp", "nvidia-gpu"], simulator=True)
    assert text.startswith("# SIMULATED")
    with pytest.raises(PolicyError, match="FILL-IN"):
        Policy.from_toml(text)
    policy = Policy.from_toml(filled(text))
    assert policy.roots.simulated and policy.workload and policy.workload.clocks == {"host"}
    assert any("SIMULATOR" in item.text and item.kind is Kind.WEAKENED for item in explain(policy))


def test_a_tee_has_the_word_that_evidence_has_for_it_and_the_sections_name_is_taken_too() -> None:
    assert "sev-snp" in tee_names() and "snp" not in tee_names()
    assert profile(["snp"]) == profile(["sev-snp"]) == profile(["sev-snp", "snp"])


def test_milan_is_not_in_a_profile() -> None:
    assert "Milan" not in str(tomllib.loads(profile(["snp"], strict=True)))


@pytest.mark.parametrize(
    ("tees", "simulator", "words"),
    [([], False, "name"), (["composite"], False, "name"), (["cpu"], False, "'cpu'"), (["tdx"], True, "tdx")],
)
def test_a_profile_for_nothing_known_is_refused(tees: list[str], simulator: bool, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        profile(tees, simulator=simulator)


def test_unfilled_says_what_is_wanted_and_survives_anything() -> None:
    found = unfilled(profile(["nvidia-gpu"]))
    assert "nvidia_gpu.count: FILL-IN: how many GPUs" in found
    assert unfilled("= nonsense") == []


# ------------------------------------------------------------------------------------ explanations


def test_every_section_has_a_guide() -> None:
    assert GUIDES.keys() == SECTIONS.keys()


@pytest.mark.parametrize("name", SECTIONS)
def test_every_field_of_every_section_is_explained(name: str) -> None:
    assert GUIDES[name].fields.keys() == {item.name for item in fields(SECTIONS[name])}
    found = said(parsed(name, table(name)), name)
    assert {item.field for item in found} >= GUIDES[name].fields.keys()
    assert all(item.text for item in found)


def test_every_field_of_the_policy_itself_is_explained() -> None:
    assert TOP.fields.keys() == {item.name for item in fields(Policy)} - SECTIONS.keys()


class Recorder(Section):
    """A section that remembers every key that was asked for."""

    def __init__(self, name: str, content: dict[str, Any], asked: set[str]) -> None:
        super().__init__(name, content)
        self._known = asked

    def __contains__(self, key: str) -> bool:
        self._known.add(key)
        return super().__contains__(key)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_guide_has_the_keys_that_the_parser_takes_and_no_other(name: str) -> None:
    asked: set[str] = set()
    flags = [key.name for key in GUIDES[name].keys if key.type == "boolean"]
    signed_by: dict[str, Any] = {"mrsigners": [H[32]], "isvprodid": 1} if name == "sgx" else {}
    for extra in (signed_by, *({flag: True} for flag in flags)):
        try:
            SECTIONS[name].parse(Recorder(name, table(name) | extra, asked))
        except PolicyError:
            continue
    assert asked == {key.name for key in GUIDES[name].keys}


def _loosened(name: str, key: str) -> Iterator[dict[str, Any]]:
    """The section with `key` written, and with as few other keys left out as lets it parse."""
    base = table(name)
    for count in range(3):
        for dropped in combinations(base, count):
            yield {other: value for other, value in base.items() if other not in dropped} | {key: True}
    registers = {other: value for other, value in base.items() if not other.startswith(("mrtd", "rtmr"))}
    yield registers | {key: True}


NEEDS: dict[str, dict[str, Any]] = {
    "allow_any_csp": {"allow_vlek": True},
    "allow_vlek": {"csp_ids": ["a provider"]},
}
WEAK_FLAGS = [
    (name, key.name)
    for name, guide in GUIDES.items()
    for key in guide.keys
    if key.type == "boolean" and key.weakens
]


@pytest.mark.parametrize(("name", "key"), WEAK_FLAGS, ids=[f"{a}.{b}" for a, b in WEAK_FLAGS])
def test_every_weakening_is_called_one(name: str, key: str) -> None:
    needs = NEEDS.get(key, {})
    for section in _loosened(name, key):
        try:
            policy = parsed(name, section | needs)
        except PolicyError:
            continue
        weak = [item for item in said(policy, name) if item.kind is Kind.WEAKENED]
        assert len(weak) > sum(value is True for value in needs.values()), f"{key} is not called a weakening"
        return
    pytest.fail(f"no section with {key} parses")


OPEN_TCB = {"Genoa": {"bl": 1, "tee": 0, "snp": 1, "ucode": 0}}


@pytest.mark.parametrize(
    ("name", "changes", "text"),
    [
        ("workload", {"clocks": ["host"]}, "host's clock"),
        ("tdx", {"tcb_statuses": ["UpToDate", "OutOfDate"]}, "OutOfDate"),
        ("tdx", {"advisories": ["INTEL-SA-1"]}, "INTEL-SA-1"),
        ("tdx", {"collateral_grace_hours": 2}, "7200 s"),
        ("tdx", {"allow_attributes": ["PKS"]}, "PKS"),
        ("sgx", {"mrsigners": [H[32]], "isvprodid": 1}, "signers"),
        ("maa", {"max_clock_skew": 30}, "30"),
        ("snp", {"products": ["Genoa"], "minimum_tcb": OPEN_TCB}, "ucode 0"),
        ("snp", {"allow_migrate_ma": True, "migration_report_ids": [H[32]]}, H[32]),
    ],
)
def test_weakenings_that_are_no_flags_are_called_so_too(
    name: str, changes: dict[str, Any], text: str
) -> None:
    found = said(parsed(name, table(name) | changes), name)
    assert [item for item in found if item.kind is Kind.WEAKENED and text in item.text]


@pytest.mark.parametrize(
    ("name", "key", "text"),
    [
        ("snp", "chip_ids", "any genuine"),
        ("nvidia_gpu", "devices", "not attached"),
        ("tdx", "ppids", "any genuine"),
        ("tpm", "ak_keys", "any that chains"),
    ],
)
def test_what_is_not_asked_for_is_said(name: str, key: str, text: str) -> None:
    section = {other: value for other, value in table(name).items() if other != key}
    found = said(parsed(name, section), name)
    assert [item for item in found if item.kind is Kind.OPEN and text in item.text]


def test_absent_sections_are_said() -> None:
    texts = [item.text for item in explain(Policy.from_toml(filled(profile(["nitro"]))))]
    assert any("no [workload]" in text for text in texts)
    assert any("refused: snp" in text for text in texts)
