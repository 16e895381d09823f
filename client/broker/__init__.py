"""The key broker: keeps owners' keys, releases each to workers that prove themselves, counts and logs it.

Needs the extra [broker]. It speaks the Confidential Containers KBS protocol 0.4.0 (docs/spec/release.md).
"""
