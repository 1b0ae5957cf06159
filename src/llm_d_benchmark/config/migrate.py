"""``config migrate``: the v0.2 spelling to today's, in the text itself, so that comments and order stay."""

from __future__ import annotations

import re

from ..domain.errors import ConfigError
from ..domain.events import Finding
from .shape import to_document
from .source import read_text

_OLD = re.compile(r"^(?P<indent>\ufeff?\s*)load_generator\s*:\s*(?P<value>[^\s#][^#]*?)?\s*(?P<comment>#.*)?$")


def migrate(text: str, name: str = "the file") -> str:
    """The text with ``load_generator: NAME`` rewritten as ``load_generators: [{type: NAME}]``; a new text unchanged.

    Raises:
        ConfigError: it is no YAML, or uses the old key in a way that a line cannot be rewritten.
    """
    before = to_document(read_text(text, name), [])
    lines = text.splitlines(keepends=True)
    after = "".join(_line(line) for line in lines)
    findings: list[Finding] = []
    read = to_document(read_text(after, name), findings)
    if findings or read.plain() != before.plain():
        raise ConfigError(
            f"{name}: 'load_generator' is written in a way that cannot be rewritten line by line",
            advice="write  load_generators: [{type: NAME, config: {...}}]  by hand",
        )
    return after


def _line(line: str) -> str:
    end = line[len(line.rstrip("\r\n")) :]
    m = _OLD.match(line.rstrip("\r\n"))
    if not m:
        return line
    indent, value, comment = m["indent"], m["value"], m["comment"]
    tail = f"  {comment}" if comment else ""
    if value is None:
        return line
    entry = value if value.startswith("{") else f"{{type: {value}}}"
    return f"{indent}load_generators: [{entry}]{tail}{end}"
