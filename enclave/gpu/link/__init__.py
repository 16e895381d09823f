"""The link: authenticated, encrypted records over the bus, under keys from an SPDM session.

docs/spec/link.md fixes every byte. Imports no torch.
"""

from enclave.gpu.bus import LinkBroken as LinkBroken
from enclave.gpu.bus import LinkError as LinkError
from enclave.gpu.bus import LinkTimeout as LinkTimeout
from enclave.gpu.bus import Reason as Reason

from .ahead import ahead as ahead
from .bulk import TransferAborted as TransferAborted
from .kinds import Kind as Kind
from .link import Link as Link
from .plain import SpdmPort as SpdmPort
from .session import LinkStatistics as LinkStatistics
from .toll import Toll as Toll
from .toll import TolledLink as TolledLink
