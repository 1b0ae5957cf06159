"""Write a load generator for llm-d-benchmark: implement ``Generator`` and call ``serve``."""

from .call import Call, CallFailed
from .serve import Generator, serve
from .types import ALL_CAPABILITIES, Hello, Session, Stage, Turn

__all__ = ["ALL_CAPABILITIES", "Call", "CallFailed", "Generator", "Hello", "Session", "Stage", "Turn", "serve"]
