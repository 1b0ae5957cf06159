"""``native`` of ``type: command``: which executable, and how long to wait for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from ...config.fields import JsonObject, Model, Seconds
from ...config.load import LoadConfig
from ...domain.errors import ConfigError
from ...domain.events import Finding, Severity


class CommandSettings(Model):
    """The keys under ``native`` of a custom generator."""

    command: list[str] = Field(min_length=1, description="program and arguments; no shell is involved")
    env: dict[str, str] = Field({}, description="variables over the inherited ones; secrets are inherited, not written")
    cwd: str | None = Field(None, description="folder it runs in; default: the current one")
    config: JsonObject = Field({}, description="handed to the generator as it is")
    ready_timeout: Seconds = Field(30.0, gt=0, description="for its answer to hello, and to get ready for a stage")
    silence_timeout: Seconds = Field(30.0, gt=0, description="it is taken for hung when it says nothing for so long")
    idle_timeout: Seconds = Field(120.0, gt=0, description="it fails when it sends nothing for so long that is due")
    stop_grace: Seconds = Field(10.0, ge=0, description="to end by itself when stopped, before SIGTERM and SIGKILL")

    @property
    def program(self) -> str:
        """Its short name for messages."""
        return Path(self.command[0]).name

    def found(self) -> bool:
        """Whether the program is there."""
        first = self.command[0]
        where = Path(self.cwd or ".", first) if os.sep in first else first
        return shutil.which(where) is not None


def settings_of(config: LoadConfig) -> CommandSettings:
    """The settings of a configuration.

    Raises:
        ConfigError: ``native`` is wrong.
    """
    try:
        return CommandSettings.model_validate(dict(config.native))
    except ValidationError as error:
        raise ConfigError("; ".join(_words(error)), advice=_ADVICE) from None


def findings(config: LoadConfig) -> list[Finding]:
    """What is wrong with the settings, as findings."""
    try:
        settings = CommandSettings.model_validate(dict(config.native))
    except ValidationError as error:
        return [Finding("command_settings", Severity.ERROR, text, _ADVICE) for text in _words(error)]
    found = []
    if settings.cwd is not None and not Path(settings.cwd).is_dir():
        text = f"native.cwd: {settings.cwd!r} is no folder that is there"
        advice = "it is where the generator runs; a relative one starts at the current folder"
        found.append(Finding("command_cwd", Severity.ERROR, text, advice))
    elif not settings.found():
        text = f"the generator's program {settings.command[0]!r} is not there or cannot be executed"
        advice = "relative paths start at native.cwd; is it built?"
        found.append(Finding("command_missing", Severity.ERROR, text, advice))
    if config.workers is not None:
        text = "'workers' has no effect on a custom generator, which is one process"
        found.append(Finding("key_without_effect", Severity.WARNING, text, "pass such a number in native.config"))
    return found


_ADVICE = "see docs/custom-generators.md; for example native: {command: [python3, my_generator.py]}"


def _words(error: ValidationError) -> Iterator[str]:
    for part in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(("native", *map(str, part["loc"])))
        yield f"{where}: {part['msg'].removeprefix('Value error, ')}"
