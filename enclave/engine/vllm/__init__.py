"""vLLM behind the engine's interface. Needs vllm, which no default install brings: see docs/vllm.md."""
