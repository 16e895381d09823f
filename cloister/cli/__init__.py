"""The console command `cloister`: thin, lazy, and never a judge of its own."""

from .app import main

__all__ = ["main"]
