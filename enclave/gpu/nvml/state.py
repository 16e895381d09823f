"""What a machine's GPUs say of their confidential-computing mode, and what of it forbids serving."""

from dataclasses import dataclass
from typing import Final, Self

from .errors import Finding

PROTECTED_PCIE: Final = 1
_FROM_HOST: Final = (
    "from the host, with the GPU unused: `nvidia_gpu_tools.py --set-cc-mode=on --reset-after-cc-mode-switch`"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentialState:
    """The machine's settings: one for all its GPUs.

    `multi_gpu` is 0, or a mode in which GPUs trust the fabric between them: 1 is protected PCIe. The word of
    the driver, inside the TEE; the report that the GPU signs has the last. Out of CC mode drivers do not say
    whether hardware and firmware are production ones: neither `production` nor `simulation` then.
    """

    capable: bool
    enabled: bool
    dev_tools: bool
    production: bool
    simulation: bool
    multi_gpu: int
    ready: bool

    @classmethod
    def none(cls) -> Self:
        """Of GPUs that know no confidential mode."""
        return cls(
            capable=False,
            enabled=False,
            dev_tools=False,
            production=False,
            simulation=False,
            multi_gpu=0,
            ready=True,
        )


def refusals(state: ConfidentialState, *, allow_protected_pcie: bool) -> tuple[Finding, ...]:
    """Why GPUs in this state may not serve; empty if the state does not forbid it.

    The ready state is not among them: it is set once the evidence is verified.
    """
    if not state.capable:
        return (
            Finding(
                "the GPU has no confidential computing",
                "use a Hopper or Blackwell data-centre GPU; or, to try things out, --insecure-gpu",
            ),
        )
    protected_pcie = state.multi_gpu == PROTECTED_PCIE
    findings = []
    if not state.enabled and not protected_pcie:
        findings.append(Finding("confidential computing (CC) mode is off", f"turn it on {_FROM_HOST}"))
    if state.dev_tools:
        findings.append(
            Finding(
                "CC DevTools mode is on: GPU memory can be read",
                f"set CC mode to on, not devtools, {_FROM_HOST}",
            )
        )
    if state.simulation:
        findings.append(
            Finding("the GPU says that it runs in a simulation", "use production firmware and hardware")
        )
    elif not state.production and (state.enabled or protected_pcie):
        findings.append(
            Finding(
                "the driver does not say that the GPU is production hardware",
                "update the NVIDIA driver; see `nvidia-smi conf-compute -q`",
            )
        )
    if state.multi_gpu not in (0, PROTECTED_PCIE):
        findings.append(
            Finding(f"multi-GPU mode {state.multi_gpu} is not known here", "use CC mode, or protected PCIe")
        )
    if protected_pcie and not allow_protected_pcie:
        findings.append(
            Finding(
                "the GPUs are in protected-PCIe mode, where NVLink is not encrypted",
                "allow_protected_pcie = true in [nvidia_gpu] of the policy accepts that; else use CC mode",
            )
        )
    return tuple(findings)
