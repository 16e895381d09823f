"""What a simulated GPU says over SPDM: its identity and registers in NVIDIA's form."""

from enclave.gpu.spdm import (
    Binding,
    CertificateChain,
    Identity,
    Mctp,
    MeasurementBlock,
    Responder,
    Responses,
)
from enclave.simulator.gpu import GpuIdentity

HEARTBEAT_PERIOD = 60


def responder(device: GpuIdentity, binding: Binding | None = None) -> Responder:
    """The device's responder: one chain, in slot 0; the leaf signs."""
    chain = CertificateChain.of(tuple(reversed(device.certificates)))
    identity = Identity({0: chain}, lambda slot, message: device.sign(message))
    blocks = tuple(MeasurementBlock.dmtf(b.index, b.kind, b.value) for b in device.measurements)
    opaque = device.opaque().to_bytes()
    responses = Responses(
        measurements=lambda raw: blocks, opaque=lambda: opaque, heartbeat_period=HEARTBEAT_PERIOD
    )
    return Responder(binding or Mctp(), identity, responses)
