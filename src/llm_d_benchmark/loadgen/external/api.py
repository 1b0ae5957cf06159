"""What one external tool must provide: an ``Adapter``, one file each, registered like any load generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from ...config.foreign.own import OwnFile
from ...config.load import LoadConfig
from ...domain.endpoint import Endpoint
from ...domain.events import Finding
from ...domain.records import Records
from ...domain.result import Measured, Scalar
from ...domain.schedule import Stage


@dataclass(frozen=True, slots=True)
class LightInstall:
    """A smaller installation of a tool, without a heavy package that it hardly uses.

    Attributes:
        bare: installed without what they require.
        packages: installed with what they require.
        files: modules that stand in for the package left out, by path within site-packages.
        note: what is different, as it is shown beside the version in every result.
    """

    bare: tuple[str, ...]
    packages: tuple[str, ...]
    files: Mapping[str, str]
    note: str


@dataclass(frozen=True, slots=True)
class Requirement:
    """What has to be installed for a tool, in an environment of its own.

    Attributes:
        packages: pinned requirements, e.g. ``("guidellm==0.8.1",)``; empty where the user must bring an installation.
        python: version specifier of the interpreters the tool accepts, e.g. ``>=3.12``.
        executable: program in the environment that proves the tool is there, or a module as ``-m NAME``.
        advice: what to do where it cannot be installed from a package registry.
        light: a smaller installation, where there is one.
        checkout: of a tool that is run from its source tree: a file by which such a tree is known. ``packages`` are
            then what the tree needs.
    """

    packages: tuple[str, ...]
    python: str
    executable: str
    advice: str | None = None
    light: LightInstall | None = None
    checkout: str | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed tool.

    Attributes:
        python: its interpreter.
        bin: the folder of its programs.
        version: what it says of itself.
        checkout: its source tree, where it is run from one.
        light: whether it is the smaller installation.
    """

    python: Path
    bin: Path
    version: str
    checkout: Path | None = None
    light: bool = False


@dataclass(frozen=True, slots=True)
class ToolStage:
    """One stage for a tool to run.

    Attributes:
        folder: where the tool's native config and results go (within the run folder's logs); it exists.
        tokenizer: folder with tokenizer.json and tokenizer_config.json that works offline.
        goodput: per-request limits in seconds by metric name.
    """

    stage: Stage
    config: LoadConfig
    endpoint: Endpoint
    environment: Environment
    folder: Path
    tokenizer: Path
    goodput: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command of a tool. Invocations of a stage run one after another in ``ToolStage.folder``.

    Attributes:
        argv: program and arguments; secrets go into ``env``, never here.
        env: variables over the inherited ones; None unsets one.
        files: native config files to write into the folder first, by name.
    """

    argv: Sequence[str]
    env: Mapping[str, str | None] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NativeStage:
    """One load level of a tool's result.

    Attributes:
        name: the tool's own name of it, or a description such as ``c=8``.
        load: what was asked for as far as the result tells: rate, concurrency, arrival.
        records: one row per request, under our definitions; None where the tool kept only aggregates.
        aggregates: the tool's own figures under our names (``ttft.mean``, ``tpot.p99``, ``requests_per_second``, ...),
            in SI units: for checking records against them, and all there is where ``records`` is None.
        window: epoch ns, start and end of the measurement; None where the tool does not tell.
    """

    name: str
    load: Mapping[str, object]
    records: Records | None
    aggregates: Mapping[str, Scalar] = field(default_factory=dict)
    window: tuple[int, int] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    def told(self, version: str | None = None) -> dict[str, Any]:
        """What the tool itself says of this stage: ``told`` of the STAGE_END event, from which the analysis compares it
        with the records, or takes it where there are none. ``version`` is that of the tool."""
        measured = {
            k: {"value": v.value, "unit": v.unit} for k, v in self.aggregates.items() if isinstance(v, Measured)
        }
        return {
            "reported": measured,
            "counts": dict(self.counts),
            "records": self.records is not None,
            "version": version,
        }


@dataclass(frozen=True, slots=True)
class NativeResult:
    """What a tool left behind."""

    tool: str
    version: str | None
    stages: Sequence[NativeStage]
    findings: Sequence[Finding] = ()
    model: str | None = None
    url: str | None = None


class Adapter(ABC):
    """All that is known of one tool: how our configuration becomes its own, and its results ours."""

    name: ClassVar[str]
    requirement: ClassVar[Requirement]
    default_endpoint: ClassVar[str] = "chat"
    """``chat`` or ``completions``, where the configuration does not say."""
    own_file: ClassVar[OwnFile | None] = None
    """How a configuration file of the tool's own is read; None: its keys go to the tool as they are."""
    known: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What makes the tool measure otherwise, by the cause under which the agreement report tells it where there is
    evidence: ``concurrency``, ``arrivals``, ``token_counts``, ``chunks``, ``connections`` (docs/agreement.md), and
    ``definition.METRIC`` of a figure of its own that is not defined as ours."""

    @abstractmethod
    def check(self, config: LoadConfig) -> Sequence[Finding]:
        """What of this configuration the tool cannot do, or does differently; an ERROR refuses the run. Pure."""

    def runs(self, stage: Stage) -> Stage:
        """The stage as the tool will run it, where it cannot run it as it is; ``check`` says what is different."""
        return stage

    @abstractmethod
    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        """The commands that put this stage's load on the endpoint."""

    @abstractmethod
    def parse(self, path: Path) -> NativeResult:
        """Results in a folder (or one result file), also of a run that others made.

        Raises:
            GeneratorError: there is no result, or it is not this tool's; the message names what was looked for.
        """

    def tidy(self, folder: Path) -> None:
        """Remove prompt and response texts from what the tool left in a stage's folder; called once after ``parse``."""
        del folder
