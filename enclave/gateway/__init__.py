"""The outside of a worker: an ASGI layer that opens oblivious requests and hands out evidence."""
