"""The bus: shared memory between worker and device that the host may read and write at any time.

Nothing here keeps a secret; what crosses is protected above (link/, spdm/). What this layer promises is that
a hostile host gets a named error out of an end, within a deadline, and nothing else. Docs: docs/spec/link.md.
"""

from .ends import BusEnd as BusEnd
from .errors import LinkBroken as LinkBroken
from .errors import LinkError as LinkError
from .errors import LinkTimeout as LinkTimeout
from .errors import NoBus as NoBus
from .errors import Reason as Reason
from .geometry import Geometry as Geometry
from .geometry import Side as Side
from .host import Bus as Bus
from .host import Descriptors as Descriptors
from .rings import Consumer as Consumer
from .rings import Producer as Producer
