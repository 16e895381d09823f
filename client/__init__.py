"""The relying parties: SDK, transport, owners' tools. Attest first, then seal."""
