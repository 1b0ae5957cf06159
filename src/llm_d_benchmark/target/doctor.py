"""Checks of a server and of this machine, each giving findings with advice; a table that later work adds to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..config.model import BenchmarkConfig
from ..config.secrets import hideable
from ..config.target import TargetConfig
from ..domain.endpoint import Endpoint
from ..domain.errors import ConfigError, TargetError
from ..domain.events import Finding, Severity
from . import host_checks as host
from .api import TargetContext
from .probe import PATHS, ServerProbe
from .registry import create_target

BURST = 8
SLOW_ROUND_TRIP_S = 0.005


@dataclass(frozen=True, slots=True)
class Check:
    """A check of a server.

    Attributes:
        issue: the entry of spec.benchmark_issues whose solutions are added to what it finds wrong.
    """

    name: str
    run: Callable[[ServerProbe], Awaitable[list[Finding]]]
    issue: str | None = None


async def streaming(probe: ServerProbe) -> list[Finding]:
    """Which endpoints there are, whether they stream, and whether the stream tells token counts."""
    found: list[Finding] = []
    missing = []
    for kind, path in PATHS.items():
        seen = await probe.streaming_check(kind)
        if seen.ok:
            found.append(_ok("streaming", f"{path} streams ({seen.chunks} chunks)"))
            found.append(_usage(path, seen.usage is not None, seen.cached_tokens))
            if not seen.done:
                found.append(_warning("stream_end", f"{path} ends its stream without [DONE]"))
        elif seen.status in (404, 405, 501):
            missing.append(kind)
        else:
            said = seen.message or "no content came"
            found.append(_error("streaming", f"{path} does not stream: {seen.status} {said}", "see the server's log"))
    for kind in missing:
        other = next((k for k in PATHS if k not in missing), None)
        text = f"there is no {PATHS[kind]}"
        if other is None:
            found.append(_error("endpoint", text, "is this an OpenAI-compatible server? The URL ends before /v1"))
        else:
            found.append(_warning("endpoint", text, f"set endpoint: {other} in the load generator's config"))
    return found


def _usage(path: str, told: bool, cached: bool) -> Finding:
    if told:
        return _ok("usage", f"{path} counts tokens in the stream's usage" + (", cached ones too" if cached else ""))
    return _warning(
        "usage",
        f"{path} gives no usage in a stream",
        "output tokens are then counted by a tokenizer: give spec.target.existing.tokenizer ([tokenizers] extra)",
    )


async def token_counts(probe: ServerProbe) -> list[Finding]:
    """By which method prompts get their exact length."""
    if await probe.usage("completions", (10, 11, 12, 13)) in (4, 5):
        return [_ok("token_counts", "prompts can be sent as token ids: exact lengths")]
    if await probe.tokenize("a few words") is not None:
        return [_ok("token_counts", "/tokenize counts tokens: exact lengths")]
    if any([await probe.usage(kind, "a few words") for kind in PATHS]):
        return [_ok("token_counts", "the server's usage counts prompts: lengths are calibrated with it")]
    return [
        _warning(
            "token_counts",
            "the server tells no token counts, so prompt lengths cannot be made exact",
            "give spec.target.existing.tokenizer ([tokenizers] extra)",
        )
    ]


async def burst(probe: ServerProbe) -> list[Finding]:
    """Whether a few requests at once are all answered (high error rates during a test)."""
    offered = [k for k in PATHS if (await probe.streaming_check(k, max_tokens=1)).status == 200]
    kind = next(iter(offered), None)
    if kind is None:
        return []  # 'streaming' has said so
    results = await asyncio.gather(
        *(probe.streaming_check(kind, max_tokens=4) for _ in range(BURST)), return_exceptions=True
    )
    bad = [r for r in results if isinstance(r, BaseException) or not r.ok]
    if not bad:
        return [_ok("burst", f"{BURST} requests at once are all answered")]
    reason = bad[0].message if not isinstance(bad[0], BaseException) else bad[0]
    return [
        _warning(
            "burst",
            f"of {BURST} requests at once {len(bad)} failed: {reason}",
            "check rate limits in front of the server and its log; raise timeouts in the load generator's config",
        )
    ]


async def round_trip(probe: ServerProbe) -> list[Finding]:
    """The idle round trip, which every latency measured from here contains."""
    seconds = await probe.round_trip()
    text = f"the idle round trip is {seconds * 1000:.2f} ms"
    if seconds <= SLOW_ROUND_TRIP_S:
        return [_ok("round_trip", text)]
    return [_warning("round_trip", text, "every latency contains it; measure from a machine near the server")]


async def metrics(probe: ServerProbe) -> list[Finding]:
    """Whether the server publishes metrics of its own (missing metrics in results)."""
    if await probe.metrics_available():
        return [_ok("metrics", "/metrics answers in Prometheus' format")]
    return [_ok("metrics", "there is no /metrics; a run needs none")]


SERVER_CHECKS: tuple[Check, ...] = (
    Check("streaming", streaming, "load_generator_failure"),
    Check("token_counts", token_counts, "data_collection_failure"),
    Check("burst", burst, "load_generator_failure"),
    Check("round_trip", round_trip),
    Check("metrics", metrics, "data_collection_failure"),
)


async def diagnose(
    config: BenchmarkConfig,
    target: TargetConfig | None,
    *,
    server_checks: Sequence[Check] = SERVER_CHECKS,
    host_checks: Sequence[host.HostCheck] = host.HOST_CHECKS,
) -> list[Finding]:
    """Run every check; findings of severity info are what is in order.

    Args:
        target: the server; None checks the machine alone. One that has to be started is, and stopped again.

    Raises:
        ConfigError: the target cannot be built from its configuration.
    """
    findings: list[Finding] = []
    for check in host_checks:
        findings += await asyncio.to_thread(check, config)
    if target is None:
        return [*findings, _ok("no_server", "no server was named: --url URL or --target local checks one as well")]
    return findings + await _server(config, target, server_checks)


async def _server(config: BenchmarkConfig, target: TargetConfig, checks: Sequence[Check]) -> list[Finding]:
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llm-d-benchmark-")))
        server = create_target(target)
        try:
            endpoint = await stack.enter_async_context(server.open(TargetContext(folder)))
        except ConfigError as error:  # a secret is not there
            return [_error("target", error.message, error.advice)]
        except TargetError as error:
            issue = "load_generator_failure" if target.type == "existing" else "deployment_failure"
            return [_with_solutions(_error("target", error.message, error.advice), config, issue)]
        findings += reached(endpoint, target.type)
        async with ServerProbe(endpoint) as probe:
            for check in checks:
                try:
                    found = await check.run(probe)
                except TargetError as error:
                    found = [_error(check.name, error.message, error.advice)]
                findings += [_with_solutions(f, config, check.issue) for f in found]
    return findings


def reached(endpoint: Endpoint, kind: str) -> list[Finding]:
    """What a successful attachment has shown: address, TLS, key, model."""
    info = endpoint.info
    found = [_ok("target", f"{endpoint.url} answers" + (f" ({info['server']})" if info.get("server") else ""))]
    if endpoint.secure and endpoint.tls.verify:
        found.append(_ok("tls", "its certificate is trusted"))
    elif endpoint.secure:
        found.append(_warning("tls", "its certificate is not checked (verify_tls: false)", "set ca_file instead"))
    elif endpoint.api_key and kind == "existing" and endpoint.host not in ("localhost", "127.0.0.1", "::1"):
        found.append(_warning("tls", "the API key is sent in the clear over http", "use the server's https URL"))
    if endpoint.api_key:
        found.append(_ok("api_key", "the API key was not refused"))
    if len(hideable(endpoint.secrets())) < len(endpoint.secrets()):
        found.append(
            _warning(
                "api_key",
                "the API key or a secret header is a short or ordinary word, which is not cut out of logs and files",
                "nothing to do where it is a placeholder; else use a key of eight characters or more",
            )
        )
    if "models" in info:
        length = f", up to {info['max_model_len']} tokens" if info.get("max_model_len") else ""
        found.append(_ok("model", f"the model '{endpoint.model}' is listed{length}"))
    else:
        found.append(_warning("model", f"the server lists no models; '{endpoint.model}' is taken on trust"))
    return found


def _with_solutions(finding: Finding, config: BenchmarkConfig, issue: str | None) -> Finding:
    """The finding with what the configuration's own troubleshooting list says about this kind of problem."""
    known = config.spec.benchmark_issues.get(issue) if issue else None
    if known is None or not known.solutions or finding.severity is Severity.INFO:
        return finding
    return replace(finding, advice="\n".join([*([finding.advice] if finding.advice else []), *known.solutions]))


def _ok(code: str, message: str) -> Finding:
    return Finding(code, Severity.INFO, message)


def _warning(code: str, message: str, advice: str | None = None) -> Finding:
    return Finding(code, Severity.WARNING, message, advice)


def _error(code: str, message: str, advice: str | None = None) -> Finding:
    return Finding(code, Severity.ERROR, message, advice)
