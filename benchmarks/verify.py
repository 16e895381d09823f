"""Cost of verification: over the bare signatures, against dcap-qvl and NVIDIA's verifier, and to import.

Evidence is genuine, from ../shared/evidence. Every ratio is the median over rounds that interleave
both sides in one process, by CPU time. The floor is what nobody can leave out: every signature that
must be verified, once each, by `cryptography`'s keys directly. Cold: every cache of the verifier is
emptied before each verification but those of the pinned roots, which belong to the package, and the
floor loads the evidence's certificates and keys anew, having loaded the roots. Warm: chains and
collateral were seen before, reports were not, and the floor's keys are loaded. Imports are fresh
interpreters with bytecode, as installed.

    python -m benchmarks.verify [--rounds N] [--json FILE] [--nvidia-python PYTHON]

NVIDIA's verifier pins versions that do not fit beside ours, so it lives in an environment of its own:

    python3 -m venv /tmp/nvidia && /tmp/nvidia/bin/pip install nv-local-gpu-verifier==2.7.3
    python -m benchmarks.verify --nvidia-python /tmp/nvidia/bin/python
"""

import functools
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attestation import Collateral, GpuEvidence, Policy, Roots, SnpEvidence, TdxEvidence, recognise, verify
from attestation.nvidia import GpuReport
from benchmarks.report import Figure, at_least, at_most, parser, publish
from tests.evidence_cases import SHARED, Case, _collateral, _inputs, _numbers, cases, policy_for

REPEAT = 12
REPORTS = ".gpu_report"  # the cache that a report seen before would hit
PINNED = ("_pinned", "anchor")  # what reads the pinned files
PEER = Path(__file__).with_name("nvidia_peer.py")
PSS = padding.PSS(padding.MGF1(hashes.SHA384()), hashes.SHA384.digest_size)
IMPORT_ROUNDS = 15
FLOOR = "from cryptography import x509; import jwt"
OURS = """
from datetime import datetime
from attestation import Collateral, Policy, SnpEvidence, verify
with open({policy!r}) as f: policy = Policy.from_toml(f.read())
with open({report!r}, "rb") as f: report = f.read()
with open({vcek!r}, "rb") as f: vcek = f.read()
evidence = SnpEvidence(report=report, endorsements=(vcek,))
now = datetime.fromisoformat("2026-03-01T00:00:00Z")
assert verify(evidence, Collateral(), policy, nonce=None, now=now).accepted
"""
# Not `ru_maxrss`, which counts the process that this one was forked from.
MEMORY = """
with open("/proc/self/status") as f: print(*(line.split()[1] for line in f if line.startswith("VmHWM")))
"""


def main() -> None:
    """Run all comparisons and publish them."""
    arguments = parser(__doc__ or "", 25)
    arguments.add_argument("--nvidia-python", type=Path, help="an interpreter with nv-local-gpu-verifier")
    options = arguments.parse_args()
    warnings.simplefilter("ignore")  # AMD issues certificates with serial number 0
    if not SHARED.is_dir():
        arguments.exit(0, f"skipped: the evidence is not at {SHARED}\n")
    figures = [
        *snp_figures(options.rounds),
        *gpu_figures(options.rounds),
        *nvidia_figures(options.rounds, options.nvidia_python),
        *tdx_figures(options.rounds),
        *import_figures(),
    ]
    publish("verify", figures, options.json)


def load(name: str) -> tuple[Case, Callable[[], bool]]:
    """A case, and a call that verifies it once through the public API, parsing included."""
    (found,) = cases(SHARED / name)
    case = Case(found.folder, found.fields, (SHARED,))
    recognised = recognise(case.files)
    collateral: Collateral = recognised.collateral.merged(_collateral(case))
    inputs = case.fields.get("inputs") or {}
    nonce = _inputs(inputs)["nonce"]
    policy: Policy = policy_for(case.tee, {"nonce"}, _numbers(recognised, inputs))
    evidence, now = recognised.evidence, case.at
    assert isinstance(evidence, SnpEvidence | TdxEvidence | GpuEvidence)
    policy = replace(policy, roots=Roots.pinned({"amd", "intel", "nvidia"}))

    def judge() -> bool:
        return verify(evidence, collateral, policy, nonce=nonce, now=now).accepted

    assert judge()
    return case, judge


def caches() -> dict[str, Callable[[], None]]:
    """What empties each cache of the verifier but those of the pinned files, which a policy loads."""
    return {
        f"{item.__module__}.{item.__qualname__}": item.cache_clear
        for item in gc.get_objects()
        if isinstance(item, functools._lru_cache_wrapper)
        and (item.__module__ or "").startswith("attestation.")
        and item.__name__ not in PINNED
    }


def forgetting(*, cold: bool) -> Callable[[], None]:
    """What empties every cache, or with `cold` false that of reports alone."""
    forgotten = [clear for name, clear in caches().items() if cold or name.endswith(REPORTS)]

    def forget() -> None:
        for clear in forgotten:
            clear()

    return forget


def cpu_us(call: Callable[[], object], before: Callable[[], object] | None = None) -> float:
    """CPU microseconds a call; `before` runs ahead of each and is not counted."""
    spent = 0
    for _ in range(REPEAT):
        if before is not None:
            before()
        start = time.process_time_ns()
        call()
        spent += time.process_time_ns() - start
    return spent / REPEAT / 1000


def compare(
    ours: Callable[[], object], bare: Callable[[], object], rounds: int, *, cold: bool
) -> tuple[float, float, float]:
    """Medians: microseconds of ours, of bare, and of the ratio within each round."""
    forget = forgetting(cold=cold)
    pairs = [(cpu_us(ours, forget), cpu_us(bare)) for _ in range(rounds)]
    mine, theirs = zip(*pairs, strict=True)
    return statistics.median(mine), statistics.median(theirs), statistics.median(a / b for a, b in pairs)


def over_floor(
    name: str, ours: Callable[[], object], cold: Callable[[], object], warm: Callable[[], object], rounds: int
) -> list[Figure]:
    """Cold and warm time over the bare signatures."""
    figures: list[Figure] = []
    for word, floor, goal in (("cold", cold, 1.25), ("warm", warm, 1.4)):
        mine, bare, ratio = compare(ours, floor, rounds, cold=word == "cold")
        figures += [
            at_most(f"{name} {word}", mine, "us"),
            at_most(f"{name} {word}, bare signatures", bare, "us"),
            at_most(f"{name} {word} over bare signatures", ratio, "ratio", goal),
        ]
    return figures


def snp_figures(rounds: int) -> list[Figure]:
    """A Genoa report under its VCEK: two RSA-PSS signatures and one on P-384."""
    case, judge = load("snp/genoa-v3-vcek")
    report, vcek = case.files["report.bin"], case.files["vcek.pem"]
    pinned = Roots.pinned({"amd"}).der("amd")
    r, s = (int.from_bytes(report[at : at + 72], "little") for at in (0x2A0, 0x2E8))
    signature = encode_dss_signature(r, s)
    key = x509.load_pem_x509_certificate(vcek).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    ask, ark = (x509.load_der_x509_certificate(pinned[f"genoa_{name}"]) for name in ("ask", "ark"))
    ask_key, ark_key = ask.public_key(), ark.public_key()
    assert isinstance(ask_key, rsa.RSAPublicKey)
    assert isinstance(ark_key, rsa.RSAPublicKey)

    def warm() -> None:
        key.verify(signature, report[:0x2A0], ec.ECDSA(hashes.SHA384()))

    def cold() -> None:
        leaf = x509.load_pem_x509_certificate(vcek)
        for below, issuer in ((leaf, ask_key), (ask, ark_key)):
            issuer.verify(below.signature, below.tbs_certificate_bytes, PSS, hashes.SHA384())
        signer = leaf.public_key()
        assert isinstance(signer, ec.EllipticCurvePublicKey)
        signer.verify(signature, report[:0x2A0], ec.ECDSA(hashes.SHA384()))

    return over_floor("SNP", judge, cold, warm, rounds)


def gpu_figures(rounds: int) -> list[Figure]:
    """An H100 report and its chain: five signatures on P-384."""
    case, judge = load("nvidia-gpu/h100-550")
    report, chain = case.files["report.bin"], case.files["cert_chain.pem"]
    parsed = GpuReport.from_bytes(report)
    r, s = (int.from_bytes(half, "big") for half in (parsed.signature[:48], parsed.signature[48:]))
    signature, signed = encode_dss_signature(r, s), report[: len(parsed.signed)]
    key = x509.load_pem_x509_certificates(chain)[0].public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)

    def warm() -> None:
        key.verify(signature, signed, ec.ECDSA(hashes.SHA384()))

    def cold() -> None:
        path = x509.load_pem_x509_certificates(chain)
        keys = [item.public_key() for item in path]
        messages = [(signature, signed), *((item.signature, item.tbs_certificate_bytes) for item in path)]
        for signer, (r_s, message) in zip(keys, messages, strict=False):  # the root signs no message
            assert isinstance(signer, ec.EllipticCurvePublicKey)
            signer.verify(r_s, message, ec.ECDSA(hashes.SHA384()))

    return over_floor("NVIDIA GPU and chain", judge, cold, warm, rounds)


def nvidia_figures(rounds: int, python: Path | None) -> list[Figure]:
    """The same report and chain against NVIDIA's verifier, which caches nothing, in its own interpreter."""
    if python is None:
        print("NVIDIA's verifier: skipped, --nvidia-python names no interpreter that has it")
        return []
    case, judge = load("nvidia-gpu/h100-550")
    opaque, nonce = GpuReport.from_bytes(case.files["report.bin"]).opaque, _inputs(case.fields["inputs"])
    files = [str(case.folder / name) for name in ("report.bin", "cert_chain.pem")]
    facts = [nonce["nonce"].hex(), str(opaque.driver_version), str(opaque.vbios_version).lower()]
    command = [str(python.absolute()), str(PEER), *files, *facts, str(REPEAT)]

    def peer() -> float:
        """CPU microseconds a verification."""
        with tempfile.TemporaryDirectory() as folder:  # it writes a log where it stands
            done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=folder)
        return float(done.stdout)

    figures: list[Figure] = []
    for word in ("cold", "warm"):
        forget = forgetting(cold=word == "cold")
        pairs = [(cpu_us(judge, forget), peer()) for _ in range(rounds)]
        theirs = statistics.median(b for _, b in pairs)
        ratio = statistics.median(b / a for a, b in pairs)
        figures.append(at_most(f"NVIDIA's verifier, beside {word}", theirs, "us"))
        figures.append(
            at_least(f"NVIDIA GPU and chain {word}, times faster than NVIDIA's", ratio, "ratio", 3)
        )
    return figures


def tdx_figures(rounds: int) -> list[Figure]:
    """A TDX quote with full collateral against dcap-qvl (Rust), which caches nothing."""
    try:
        import dcap_qvl  # type: ignore[import-untyped]
    except ImportError:
        print("TDX: skipped, dcap-qvl is not installed")
        return []
    from tests.attestation.tdx_peer import pack

    case, judge = load("tdx/v5-uptodate")
    quote, collateral, seconds = case.files["quote.bin"], _collateral(case), int(case.at.timestamp())

    def peer() -> object:
        return dcap_qvl.verify(quote, pack(quote, collateral), seconds)

    figures: list[Figure] = []
    for word, goal in (("cold", 1.8), ("warm", None)):
        mine, theirs, ratio = compare(judge, peer, rounds, cold=word == "cold")
        figures += [at_most(f"TDX {word}", mine, "us"), at_most(f"TDX dcap-qvl, beside {word}", theirs, "us")]
        figures.append(at_most(f"TDX {word} over dcap-qvl", ratio, "ratio", goal))
    return figures


def import_figures() -> list[Figure]:
    """Importing the verifier and one SNP verification, over importing x509 and PyJWT."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder, "policy.toml")
        policy.write_text(_snp_policy())
        case = SHARED / "snp" / "genoa-v3-vcek"
        ours = OURS.format(policy=str(policy), report=str(case / "report.bin"), vcek=str(case / "vcek.pem"))
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}

        def child(code: str) -> tuple[float, float]:
            """Milliseconds and megabytes of a fresh interpreter that runs `code`."""
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code + MEMORY], env=environment, capture_output=True, check=True
            )
            return (time.perf_counter() - start) * 1000, int(done.stdout) / 1024

        for code in (FLOOR, ours):  # the first run writes the bytecode
            child(code)
        rounds = [(child(ours), child(FLOOR)) for _ in range(IMPORT_ROUNDS)]
    figures: list[Figure] = []
    for position, (what, unit) in enumerate((("time", "ms"), ("peak memory", "MB"))):
        mine = statistics.median(pair[0][position] for pair in rounds)
        bare = statistics.median(pair[1][position] for pair in rounds)
        ratio = statistics.median(pair[0][position] / pair[1][position] for pair in rounds)
        figures += [
            at_most(f"import and verify SNP, {what}", mine, unit),
            at_most(f"import x509 and PyJWT, {what}", bare, unit),
            at_most(f"import and verify SNP over x509 and PyJWT, {what}", ratio, "ratio", 1.3),
        ]
    return figures


def _snp_policy() -> str:
    from tests.evidence_cases import _table

    shared = _table()["shared"]
    return str(shared["head"] + shared["snp"])


if __name__ == "__main__":
    main()
