"""Inference over token ids. `interface` and `runner` import no torch; the other modules do."""
