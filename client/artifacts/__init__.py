"""An owner's tools: keys, sealing a directory, checking and sending what was sealed."""
