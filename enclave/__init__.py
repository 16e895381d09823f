"""The worker: identity, evidence, gateway and engine."""
