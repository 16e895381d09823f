"""A simulated security processor and GPU identity: real formats, signed under keys that everybody has."""
