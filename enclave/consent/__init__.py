"""Consent, the worker's side: whether a joint workload may start, and what may come out of it."""
