"""Sealed artifacts in the worker: untrusted stores, chunks verified before use, plaintext in memory alone."""
