"""THREAT_MODEL rows E1 to E8, E11 and E12: the operator on the evidence of a running worker."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attestation import Bundle, Keyset, Policy, PolicyError, Rejected, Roots, Workload
from attestation.bundles import check_workload
from attestation.checks import BundleCheck
from attestation.verdict import Sheet
from client.errors import InsecureAddress, NoUsableKey
from client.sdk import AsyncClient
from tests.attacks.operator import Answer, Rewriter
from tests.running import ROOT, RunningWorker

Alter = Callable[[Bundle], Bundle]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWorker]:
    """A second genuine worker of the same operator, with the same measurement."""
    running = RunningWorker(tmp_path_factory.mktemp("other")).start()
    yield running
    running.stop()


def wire(worker: RunningWorker, alter: Alter) -> Rewriter:
    def rewrite(answer: Answer) -> Answer:
        if answer.path != "/attestation":
            return answer
        return dataclasses.replace(answer, body=alter(Bundle.from_json(answer.body)).to_json())

    return Rewriter(worker.url, rewrite)


async def refused(worker: RunningWorker, alter: Alter) -> set[str]:
    """The checks that failed; nothing was sent to /ohttp."""
    cable = wire(worker, alter)
    async with AsyncClient(worker.url, worker.policy, wire=cable) as client:
        with pytest.raises(Rejected) as caught:
            await client.ask("my secret")
    assert cable.requests == []
    return {f"{r.subject} {r.check}" for r in caught.value.verdict.blocking() if r.outcome == "fail"}


async def evidence(worker: RunningWorker) -> Bundle:
    async with AsyncClient(worker.url, worker.policy) as client:
        return (await client.examine())[0]


def with_keyset(bundle: Bundle, **changes: object) -> Bundle:
    keyset = dataclasses.replace(Keyset.from_bytes(bundle.keyset), **changes)  # type: ignore[arg-type]
    return dataclasses.replace(bundle, keyset=keyset.to_bytes())


async def test_e1_keys_put_in_place_of_the_workers_are_refused(worker: RunningWorker) -> None:
    def alter(bundle: Bundle) -> Bundle:
        keys = Keyset.from_bytes(bundle.keyset).ohttp
        mine = dataclasses.replace(keys[0], public_key=b"\x42" * len(keys[0].public_key))
        return with_keyset(bundle, ohttp=(mine, *keys[1:]))

    failed = await refused(worker, alter)
    assert {"cpu0 snp.report-data", "gpu0 nvidia.nonce"} <= failed


async def test_e1_a_session_key_put_in_place_is_refused(worker: RunningWorker, other: RunningWorker) -> None:
    theirs = await evidence(other)
    failed = await refused(worker, lambda b: dataclasses.replace(b, session=theirs.session))
    assert "cpu0 snp.report-data" in failed


async def test_e2_stripped_gpu_evidence_is_refused(worker: RunningWorker) -> None:
    failed = await refused(worker, lambda b: dataclasses.replace(b, devices=()))
    assert {"bundle.devices", "cpu0 snp.report-data"} <= {f.removeprefix("bundle ") for f in failed}


async def test_e3_gpu_evidence_of_another_worker_is_refused(
    worker: RunningWorker, other: RunningWorker
) -> None:
    theirs = await evidence(other)
    failed = await refused(worker, lambda b: dataclasses.replace(b, devices=theirs.devices))
    assert {"gpu0 nvidia.nonce", "cpu0 snp.report-data"} <= failed


async def test_e3_a_cpu_report_of_another_worker_is_refused(
    worker: RunningWorker, other: RunningWorker
) -> None:
    theirs = await evidence(other)
    assert await refused(worker, lambda b: dataclasses.replace(b, cpu=theirs.cpu)) == {"cpu0 snp.report-data"}


async def test_e4_old_evidence_is_refused(worker: RunningWorker) -> None:
    old = await evidence(worker)
    assert "bundle bundle.nonce" in await refused(worker, lambda b: old)


async def test_e4_old_evidence_under_a_new_nonce_is_refused(worker: RunningWorker) -> None:
    old = await evidence(worker)
    failed = await refused(worker, lambda b: dataclasses.replace(old, nonce=b.nonce))
    assert "cpu0 snp.report-data" in failed


async def test_e5_another_workload_than_the_report_covers_is_refused(worker: RunningWorker) -> None:
    def alter(bundle: Bundle) -> Bundle:
        workload = dataclasses.replace(Workload.from_bytes(bundle.workload), adapters=())
        renamed = dataclasses.replace(workload, engine={})
        return dataclasses.replace(bundle, workload=renamed.to_bytes())

    assert await refused(worker, alter) == {"cpu0 snp.report-data"}


async def test_e6_an_expired_keyset_is_refused(worker: RunningWorker) -> None:
    late = time.time() + 25 * 3600
    async with AsyncClient(worker.url, worker.policy, clock=lambda: late) as client:
        with pytest.raises(Rejected) as caught:
            await client.ask("my secret")
    assert "keyset.validity" in {str(r.check) for r in caught.value.verdict.blocking()}


async def test_e7_a_keyset_without_the_hybrid_is_not_used_unless_spelled_out(worker: RunningWorker) -> None:
    """Removing the hybrid key breaks the binding; a worker that never offered it is refused by name."""

    def alter(bundle: Bundle) -> Bundle:
        keys = Keyset.from_bytes(bundle.keyset).ohttp
        return with_keyset(bundle, ohttp=tuple(key for key in keys if key.kem != 0x647A))

    assert "cpu0 snp.report-data" in await refused(worker, alter)
    from client.attested import _choose

    keyset = Keyset.from_bytes((await evidence(worker)).keyset)
    classical = dataclasses.replace(keyset, ohttp=tuple(k for k in keyset.ohttp if k.kem == 0x20))
    with pytest.raises(NoUsableKey, match="allow_classical"):
        _choose(classical, worker.policy)
    allowed = dataclasses.replace(worker.policy, allow_classical=True)
    assert _choose(classical, allowed)[0].kem == 0x20


async def test_e11_withheld_one_time_keys_are_missed_where_they_are_demanded(worker: RunningWorker) -> None:
    def strip(bundle: Bundle) -> Bundle:
        return dataclasses.replace(bundle, session=None)

    cable = wire(worker, strip)
    policy = Policy.from_toml("require_session = true\n" + worker.policy_file.read_text())
    async with AsyncClient(worker.url, policy, wire=cable) as client:
        with pytest.raises(Rejected) as caught:
            await client.ask("my secret")
    assert cable.requests == []
    assert "session.validity" in {str(r.check) for r in caught.value.verdict.blocking()}
    async with AsyncClient(worker.url, policy) as client:
        await client.ask("a question", max_tokens=1)


async def test_e12_an_allowed_root_under_another_name_is_refused(worker: RunningWorker) -> None:
    """What `cloister measure` writes pins names: a worker that calls the model otherwise is no match."""
    text = worker.policy_file.read_text()
    assert 'models = ["faq=' in text
    renamed = Policy.from_toml(text.replace('models = ["faq=', 'models = ["expert='))
    unnamed = Policy.from_toml(text.replace('models = ["faq=', 'models = ["'))
    made = await evidence(worker)
    for policy, passes in ((worker.policy, True), (renamed, False), (unnamed, True)):
        sheet = Sheet("bundle", ())
        check_workload(sheet, Workload.from_bytes(made.workload), policy.workload)
        assert sheet.passed(BundleCheck.WORKLOAD_MODELS) == passes
    async with AsyncClient(worker.url, renamed) as client:
        with pytest.raises(Rejected, match=r"workload\.models"):
            await client.ask("my secret")


@pytest.mark.parametrize("url", ["http://192.0.2.1:8420", "https://example.org", "http://localhost.example"])
def test_e8_a_simulated_worker_is_trusted_on_loopback_only(worker: RunningWorker, url: str) -> None:
    with pytest.raises(InsecureAddress):
        AsyncClient(url, worker.policy)
    spelled = Policy.from_toml("allow_remote_simulation = true\n" + worker.policy_file.read_text())
    AsyncClient(url, spelled)


def test_e8_the_simulator_may_not_be_named_with_real_roots(worker: RunningWorker, tmp_path: Path) -> None:
    text = worker.policy_file.read_text().replace('["simulator"]', '["simulator", "amd"]')
    with pytest.raises(Exception, match="simulator"):
        Policy.from_toml(text)


async def test_e9_evidence_of_a_simulated_worker_fails_under_real_roots(worker: RunningWorker) -> None:
    text = worker.policy_file.read_text().replace('["simulator"]', '["amd", "nvidia"]')
    async with AsyncClient(worker.url, Policy.from_toml(text)) as client:
        _, verdict = await client.examine()
    assert verdict.word == "REJECTED"
    assert not verdict.simulated


async def test_e10_metrics_name_no_tenant_and_no_content(worker: RunningWorker) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(f"{worker.url}/metrics") as response:
        text = await response.text()
    labels = {
        line.split("{")[1].split("=")[0] for line in text.splitlines() if "{" in line and line[0] != "#"
    }
    assert labels <= {"outcome"}
    assert "token" not in text


def test_e8_the_simulators_roots_are_not_taken_as_somebodys_own(tmp_path: Path) -> None:
    """As custom roots they would pass without SIMULATED, anywhere."""
    shutil.copytree(ROOT / "attestation" / "roots" / "simulator", tmp_path / "roots")
    with pytest.raises(PolicyError, match="simulator"):
        Roots.from_directory(tmp_path / "roots")
