"""Sealed artifacts: models, adapters and documents at rest, encrypted and signed by their owner. No IO."""

from .secret import ReleasedSecret

__all__ = ["ReleasedSecret"]
