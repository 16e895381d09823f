"""The simulated GPU, and what a worker does to use one.

The device's side: process.py (its process), firmware.py (what it says over SPDM), serving.py (its engine).
The worker's side: attested.py (the session), keeper.py (who attests it anew), engine.py (`DeviceEngine`).
Between them: messages.py and codec.py. torch is imported in the device's process alone.
"""
