"""Fixed vectors: facts of the protocol with the place that each was read at."""

import json
from pathlib import Path
from typing import Any

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "kbs.json").read_text("utf-8"))
