"""Between text and token ids, on the worker's side of the engine. Imports no torch."""

from .chat import UnsupportedChat
from .detokenizer import Detokenizer, StopStrings
from .model import TextModel

__all__ = ["Detokenizer", "StopStrings", "TextModel", "UnsupportedChat"]
