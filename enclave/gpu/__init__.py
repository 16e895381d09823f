"""The link to the GPU: SPDM sessions (spdm/), the simulated device (device/), bus and records, NVML.

Nothing here but a device's own engine imports torch, and that lazily.
"""
