"""LLMeter (awslabs), a library: our stages as a run of its ``Runner``, its responses as our records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from ..config.load import LoadConfig
from ..domain.errors import GeneratorError
from ..domain.events import Finding
from ..domain.records import Records, Status, TokenSource
from ..domain.result import Scalar
from ..domain.schedule import Stage
from ..workload.lengths import draw
from ..workload.seeds import Streams, Use
from ..workload.synthetic import SyntheticOptions
from ..workload.words import words
from .external import plan
from .external.api import Invocation, NativeResult, NativeStage, Requirement, ToolStage
from .external.files import find, lines, mapping
from .external.generator import ExternalLoadGenerator
from .external.plan import common_findings, tool_keys
from .external.rows import Row, counts, epoch_ns, failure, statistics, to_records, window

PLAN, LAUNCH, OUTPUT = "plan.json", "launch.py", "llmeter"
RESPONSES, STATS, SUMMARY, CONFIG = "responses.jsonl", "stats.json", "summary.json", "run_config.json"
HEADERS_ENV = "LLM_D_BENCHMARK_TOOL_HEADERS"
PROMPTS = 5_000
"""Different prompts of a loop by time, at most."""

LAUNCHER = f'''"""Runs LLMeter with a prompt of its own for every request; its users would all send the same ones."""

import asyncio
import json
import os
from itertools import cycle

from llmeter import serialization
from llmeter.endpoints.openai import OpenAICompletionEndpoint, OpenAICompletionStreamEndpoint
from llmeter.runner import Runner
from llmeter.tokenizers import DummyTokenizer

with open("{PLAN}") as file:
    plan = json.load(file)
payloads = cycle(plan["payloads"])


class Endpoint(OpenAICompletionStreamEndpoint if plan["streaming"] else OpenAICompletionEndpoint):
    def prepare_payload(self, payload):
        return super().prepare_payload(next(payloads))


class Uncounted(DummyTokenizer):
    """Counts nothing, where it would count words as the tokens of a server that does not tell them."""

    def encode(self, text):
        return []


serialization.datetime_to_str = lambda moment: moment.isoformat()  # it saves whole seconds
headers = {{**plan["headers"], **json.loads(os.environ.pop("{HEADERS_ENV}", "{{}}"))}}
endpoint = Endpoint(**plan["endpoint"], api_key=os.environ.get("OPENAI_API_KEY", "none"), default_headers=headers)
endpoint._client.chat.completions  # imported at its first use, which would be a part of the first request
runner = Runner(endpoint, tokenizer=Uncounted(), output_path="{OUTPUT}")


async def run():
    await runner.run(payload={{"messages": []}}, run_name="run", **plan["run"])
    os._exit(0)  # all is saved; after an interrupt its users are threads that would go on, and be waited for


asyncio.run(run())
'''


class LLMeter(ExternalLoadGenerator):
    """Adapter of LLMeter 0.2."""

    name: ClassVar[str] = "llmeter"
    requirement: ClassVar[Requirement] = Requirement(
        # It imports httpx, which openai 3 does without; of the AWS packages pip alone would try pair after pair.
        packages=("llmeter[openai]==0.2.0", "openai==2.54.0", "boto3==1.43.117", "aiobotocore==3.10.0"),
        python=">=3.10,<4",
        executable="-m llmeter",
    )

    def check(self, config: LoadConfig) -> Sequence[Finding]:
        return list(_findings(config))

    def runs(self, stage: Stage) -> Stage:
        return plan.as_closed_loop(stage)

    def invocations(self, stage: ToolStage) -> Sequence[Invocation]:
        secret = plan.secret_headers(stage.endpoint)
        key = secret.pop("Authorization", "").removeprefix("Bearer ")
        env: dict[str, str | None] = {"OPENAI_API_KEY": key or None, "LLMETER_DISABLE_ALL_PROGRESS_BARS": "1"}
        env[HEADERS_ENV] = json.dumps(secret) if secret else None
        env |= plan.tls_environment(stage.endpoint, self.name)
        files = {PLAN: json.dumps(native_plan(stage)), LAUNCH: LAUNCHER}
        return [Invocation([str(stage.environment.python), LAUNCH], env, files)]

    def parse(self, path: Path) -> NativeResult:
        return _parse(path)

    def tidy(self, folder: Path) -> None:
        for prompts in (folder / PLAN, *folder.rglob("payload.jsonl")):
            prompts.unlink(missing_ok=True)
        for path in folder.rglob(RESPONSES):
            draft = path.with_suffix(".new")
            with path.open("rb") as file, draft.open("wb") as out:
                out.writelines(map(_without_texts, file))
            draft.replace(path)


def _findings(config: LoadConfig) -> Iterator[Finding]:
    name = LLMeter.name
    yield from common_findings(name, config, arrivals_taken=(), keys_taken={"parameters", "timeouts"})
    yield from plan.closed_loop_findings(name, config)
    if config.endpoint == "completions":
        advice = "leave 'endpoint' out, or use another load generator"
        yield plan.error("endpoint_unsupported", f"{name} speaks /v1/chat/completions only", advice)
    if config.workers is not None:
        yield plan.warning("key_without_effect", f"{name}'s users are threads of one process; 'workers' has no effect")
    for asked in plan.loads_of(config):
        if asked.num_requests is not None and asked.duration is not None:
            yield plan.warning("requests_ignored", f"{name} runs for its duration; 'num_requests' does not end it")
    yield plan.info("no_chunk_times", f"{name} keeps no times of single tokens: itl is absent")
    yield plan.info("ttft_with_connect", f"{name}'s ttft includes connection set-up, which it does not tell apart")


def native_plan(tool: ToolStage) -> dict[str, Any]:
    """What the launcher reads: the endpoint and the run as LLMeter's own arguments, and the payloads."""
    config, stage, endpoint = tool.config, tool.stage, tool.endpoint
    users = stage.load.concurrency or 1
    timed = stage.load_s is not None
    total = config.timeouts.total
    run: dict[str, Any] = {"clients": users, "timeout": total + config.timeouts.connect}
    if timed:
        run["run_duration"] = stage.load_s
    else:
        run["n_requests"] = -(-(stage.num_requests or 1) // users)  # of each user
    count = PROMPTS if timed else run["n_requests"] * users
    return {
        "streaming": stage.streaming,
        "headers": plan.plain_headers(endpoint),
        "endpoint": {"model_id": endpoint.model, "base_url": f"{endpoint.url}/v1", "timeout": total, "max_retries": 0},
        "run": {**run, **tool_keys(config)},
        "payloads": _payloads(tool, count),
    }


def _payloads(tool: ToolStage, count: int) -> list[dict[str, Any]]:
    """Chats of random words, each of them about one token."""
    config = tool.config
    made = plan.options(SyntheticOptions, config)
    seed = plan.seed_of(config, tool.stage)
    lengths, prompts = Streams(seed, Use.LENGTH), Streams(seed, Use.PROMPT)
    known = words()
    found = []
    for k in range(count):
        rng = lengths.at(k)
        size, answer = draw(made.input_length, rng), draw(made.output_length, rng)
        text = " ".join(known[i] for i in prompts.at(k).integers(0, len(known), size))
        chat = {"messages": [{"role": "user", "content": text}], "max_tokens": answer}
        found.append(chat | ({"extra_body": dict(config.parameters)} if config.parameters else {}))
    return found


class _Response(msgspec.Struct):
    request_time: str | None
    time_to_last_token: float | None
    time_to_first_token: float | None = None
    num_tokens_input: int | None = None
    num_tokens_output: int | None = None
    num_tokens_input_cached: int | None = None
    error: str | None = None


def _parse(path: Path) -> NativeResult:
    """Its responses, which are written as they come; what it writes at its end tells the load and its own figures."""
    file = path if path.is_file() else find(path, (RESPONSES,), tool=LLMeter.name) / RESPONSES
    told = {name: _beside(file, name) for name in (STATS, SUMMARY, CONFIG)}
    used, summary = told[CONFIG], told[SUMMARY]
    endpoint = mapping(mapping(used.get("endpoint")).get("__llmeter_state__"))
    uncounted = str(mapping(used.get("tokenizer")).get("__llmeter_class__")).endswith("Uncounted")
    findings: list[Finding] = []
    responses = list(lines(file, _Response, tool=LLMeter.name, findings=findings))
    if not responses:
        raise GeneratorError(f"{file} holds no responses", advice="did LLMeter end properly? see its log")
    streaming = any(r.time_to_first_token is not None for r in responses)
    records = to_records([_row(r, streaming, uncounted) for r in responses])
    users = summary.get("clients") or used.get("clients")
    load = {} if users is None else {"concurrency": users, "endpoint": "chat"}
    stage = NativeStage(plan.label(load), load, records, _figures(told[STATS]), window(records), counts(records))
    model = str(summary.get("model_id") or endpoint.get("model_id") or "") or None
    url = str(endpoint.get("base_url") or "").rstrip("/").removesuffix("/v1")
    findings += _told(responses, records, uncounted)
    return NativeResult(LLMeter.name, None, [stage], findings, model, url or None)


def _without_texts(line: bytes) -> bytes:
    """A response without its prompt and answer; nothing of a line that is none, because it may hold either."""
    with suppress(msgspec.DecodeError, RecursionError):
        return msgspec.json.encode(msgspec.json.decode(line, type=_Response)) + b"\n"
    return b""


def _beside(responses: Path, name: str) -> Mapping[str, Any]:
    """One of the files beside the responses; nothing where a run that was ended left none."""
    with suppress(OSError, ValueError):
        return mapping(json.loads((responses.parent / name).read_bytes()))
    return {}


def _row(response: _Response, streaming: bool, uncounted: bool) -> Row:
    """Its times are seconds after the request began. Of a failed one it keeps no end."""
    if response.request_time is None:
        return {"streaming": streaming, **failure("error", response.error)}
    sent = epoch_ns(datetime.fromisoformat(response.request_time).timestamp())
    first, last = (
        None if t is None else sent + round(t * 1e9)
        for t in (response.time_to_first_token, response.time_to_last_token)
    )
    row: Row = {"sent": sent, "end": sent if last is None else last, "streaming": streaming}
    if streaming:
        row |= {"first_token": first, "last_token": last}
    if response.error is not None:
        return row | failure("error", response.error)
    if streaming and first is None:
        return row | failure("no content", None)
    source = TokenSource.USAGE if uncounted else None
    return row | {
        "status": Status.OK,
        "input_tokens": response.num_tokens_input or None,
        "output_tokens": response.num_tokens_output or None,
        "cached_tokens": response.num_tokens_input_cached,
        "input_source": source if response.num_tokens_input else None,
        "output_source": source if response.num_tokens_output else None,
    }


def _told(responses: Sequence[_Response], records: Records, uncounted: bool) -> Iterator[Finding]:
    status = records.labels("status")
    unended = int((status.is_(Status.FAILED) & (records.ints("end") == records.ints("sent"))).sum())
    if unended:
        text = f"{unended} failed requests have no end in its results and count as ended when they began"
        yield plan.warning("failures_without_end", text, "the concurrency is understated by them")
    if not any("." in (r.request_time or "") for r in responses):
        text = "its times are whole seconds: latencies are exact, but not when a request was sent"
        yield plan.warning("times_rounded", text, "do not rely on the requests in flight of a short run")
    if not uncounted:
        text = "tokens are the server's where it told them, else words that llmeter counted; it does not say which"
        yield plan.info("token_source_unknown", text)


def _figures(stats: Mapping[str, Any]) -> dict[str, Scalar]:
    """Its own figures: ``time_to_first_token-p50`` and the like, in seconds, of the responses that succeeded."""
    names = {
        "time_to_first_token": "ttft", "time_to_last_token": "e2e", "num_tokens_input": "input_tokens",
        "num_tokens_output": "output_tokens",
    }  # fmt: skip
    found: dict[str, Scalar] = {}
    for theirs, ours in names.items():
        own = {
            k.removeprefix(f"{theirs}-").replace("average", "mean"): v
            for k, v in stats.items()
            if k.startswith(f"{theirs}-")
        }
        found |= statistics(ours, own, unit="tokens" if "tokens" in ours else "s")
    return found
