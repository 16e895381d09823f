"""Between text and token ids, on the worker's side of the engine. Imports no torch."""

from .chat import UnsupportedChat
from .detokenizer import Detokenizer, StopStrings
from .json_schema import AnswerSchema, SchemaRefused
from .model import TextModel

__all__ = ["AnswerSchema", "Detokenizer", "SchemaRefused", "StopStrings", "TextModel", "UnsupportedChat"]
