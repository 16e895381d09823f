"""The OpenAI-compatible API: an ordinary FastAPI app that only ever runs behind the seal."""
