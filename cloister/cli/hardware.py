"""`cloister serve --tee`: from settings to the worker of a real CPU TEE, with nothing of the simulator."""

import sys
from pathlib import Path
from typing import NoReturn

from enclave.configuration import Configuration, ConfigurationError
from enclave.hardware import GpuJudge, become

from .files import read_collateral, read_policy
from .serving import Settings


def become_worker(settings: Settings, configuration: Configuration, write_policy: Path | None) -> NoReturn:
    """Replace this process by the worker. ConfigurationError for what does not go with real hardware."""
    if write_policy is not None:
        raise ConfigurationError(
            "--write-policy pins the simulator's measurement; with --tee it is the machine's own:"
            " `cloister policy new` writes a file to start from, docs/hardware.md says what to pin"
        )
    judge = _gpu_judge(settings)
    sys.stderr.write(f"evidence is asked of this machine ({configuration.tee}); nothing is simulated\n")
    become(configuration, judge)


def _gpu_judge(settings: Settings) -> GpuJudge | None:
    """What this machine's GPUs must pass before they are given anything."""
    if not settings.gpu:
        if settings.gpu_policy or settings.gpu_collateral:
            raise ConfigurationError("--gpu-policy and --gpu-collateral go with --gpu nvidia")
        return None
    if settings.gpu_policy is None:
        raise ConfigurationError(
            "--gpu nvidia needs --gpu-policy FILE: a policy with an [nvidia_gpu] section"
        )
    policy = read_policy(settings.gpu_policy)
    if policy.roots.simulated or policy.nvidia_gpu is None:
        raise ConfigurationError(
            f'{settings.gpu_policy}: real GPUs need an [nvidia_gpu] section, and roots = ["nvidia"] rather'
            " than the simulator"
        )
    text = settings.gpu_policy.read_text("utf-8")
    return GpuJudge(policy=text, collateral=read_collateral(list(settings.gpu_collateral)))
