"""The demo: a worker, a client, and the operator between them who sees only ciphertext."""
