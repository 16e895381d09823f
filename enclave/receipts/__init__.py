"""Receipts, the worker's side: what an answer cost, evidence for each hour, the layer that signs."""
