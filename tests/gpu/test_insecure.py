"""A GPU that nothing vouches for computes only where somebody wrote that he wants it, and then it shows."""

from pathlib import Path

import pytest

from client.blocking import Client
from enclave.configuration import Configuration, ConfigurationError
from enclave.engine.interface import EngineOptions
from tests.running import FAQ, RunningWorker


def configuration(device: str = "cpu", *, insecure: bool = False) -> Configuration:
    return Configuration(model=FAQ, name="faq", engine=EngineOptions(device=device), insecure_gpu=insecure)


def test_a_gpu_is_refused_unless_it_is_called_insecure() -> None:
    with pytest.raises(ConfigurationError, match="--insecure-gpu"):
        configuration("cuda")
    assert configuration("cuda:1", insecure=True).engine.device == "cuda:1"
    assert configuration(insecure=True).engine.device == "cuda"


def test_it_is_measured_and_stands_in_the_workload() -> None:
    made = configuration(insecure=True)
    assert made.engine_options()["insecure_gpu"] is True and made.engine_options()["device"] == "cuda"
    assert made.measured() != configuration().measured()
    assert "insecure_gpu" not in configuration().engine_options()
    again = Configuration.from_tables(made.measured() | made.local())
    assert again == made


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_worker_on_one_says_so_and_its_verdict_is_simulated(device: str, tmp_path: Path) -> None:
    """torch takes "cpu:0" for a device of its own: the way of a GPU, on any machine."""
    worker = RunningWorker(tmp_path, ("--insecure-gpu", "--engine", f"device={device}")).start()
    try:
        assert "INSECURE GPU" in worker.output
        with Client(worker.url, worker.policy) as client:
            verdict = client.attest()
            assert verdict.accepted and verdict.simulated
            assert client.ask("What is remote attestation?", temperature=0.0, max_tokens=8).text
    finally:
        worker.stop()
    assert "keeps the weights in device memory" in worker.output
