"""Owners' documents in the worker: read once, searched by words, quoted with their source."""
