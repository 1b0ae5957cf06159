"""aiperf's configuration file (``benchmark``, ``randomSeed``), and its command-line options as keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain

from ...config.foreign.own import (
    LOADS,
    Own,
    OwnFile,
    Section,
    entries,
    length,
    no_secret,
    number,
    stages,
    whole,
)
from ...config.tree import Node, tree_of
from ...domain.errors import ConfigError

FOLDER = "results go into the run folder"
BENCHMARK = frozenset(
    {
        "models", "model", "endpoint", "datasets", "dataset", "phases", "artifacts", "tokenizer", "gpuTelemetry",
        "serverMetrics", "runtime", "slos",
    }
)  # fmt: skip
OPTIONS = frozenset(
    {
        "url", "model_names", "endpoint_type", "tokenizer", "synthetic_input_tokens_mean",
        "synthetic_input_tokens_stddev", "output_tokens_mean", "output_tokens_stddev", "random_seed", "workers_max",
        "request_count", "benchmark_duration", "arrival_pattern", "artifact_dir", "ui", "use_server_token_count",
        "no_gpu_telemetry", "extra_inputs", "request_timeout_seconds", "output_artifact_dir", "arrival_smoothness",
        "concurrency_ramp_duration",
    }
)  # fmt: skip
CONCURRENCY, REQUESTS, INPUT_TOKENS = 1, 10, 550
"""What aiperf takes where its options do not say."""
PHASE = ("name", "type", "concurrency", "requests", "duration", "rate", "smoothness", "gracePeriod", "concurrencyRamp")
KEYS = frozenset({"benchmark", "schemaVersion", "randomSeed"}) | BENCHMARK | OPTIONS


def read(file: Section) -> Own:
    """Phases, lengths, seed and server; what else it says is passed on.

    Raises:
        ConfigError: a value of the wrong kind, a load that is not said in common keys.
    """
    own = Own()
    file.items = {k.replace("-", "_"): v for k, v in file.items.items()}
    file.take("schemaVersion")
    file.move(own.common, seed="randomSeed")
    benchmark = file.section("benchmark") if "benchmark" in file.items else Section("benchmark", None)
    benchmark.items |= {k: file.items.pop(k) for k in sorted(BENCHMARK & file.items.keys())}
    own.defaults["streaming"] = False
    if benchmark.items:
        _benchmark(own, benchmark)
    else:
        _defaults(own, file)
    _options(own, file)
    own.native |= benchmark.items
    for name in sorted(KEYS & file.items.keys()):
        node = file.items.pop(name)
        raise ConfigError(f"{node.origin}: aiperf's option '{name}' has no common key", advice="give it under native")
    return own


def _benchmark(own: Own, benchmark: Section) -> None:
    models = benchmark.take("models", "model")
    if models is not None:
        own.target["model"] = models.value[0] if models.is_list else models
    endpoint = benchmark.section("endpoint")
    urls = endpoint.take("urls", "url")
    if urls is not None:
        own.target["url"] = urls.value[0] if urls.is_list else urls
    endpoint.move(own.common, streaming="streaming", endpoint="type", parameters="extra")
    no_secret(endpoint.take("apiKey"), "endpoint.apiKey")
    timeout = endpoint.take("timeout")
    if timeout is not None:
        own.common["timeouts"] = Node({"total": timeout}, timeout.origin)
    if endpoint.items:
        benchmark.items["endpoint"] = Node(endpoint.items, endpoint.origin)
    own.drop("artifacts", benchmark.take("artifacts"), FOLDER)
    datasets = benchmark.items.get("datasets") or benchmark.items.get("dataset")
    if datasets is not None and _synthetic(own, datasets):
        benchmark.take("datasets", "dataset")
    phases = benchmark.take("phases")
    if phases is not None:
        stages(own, list(_phases(own, entries(phases))), phases.origin)


def _synthetic(own: Own, datasets: Node) -> bool:
    """Whether it is one synthetic dataset, whose lengths are then common keys."""
    listed = entries(datasets)
    if len(listed) != 1 or not listed[0].is_mapping:
        return False
    one = Section("datasets", listed[0])
    kind = one.take("type")
    rest = one.items.keys() - {"name", "entries", "prompts"}
    if rest or (kind is not None and kind.value != "synthetic"):
        return False
    prompts = one.section("prompts")
    for ours, theirs in (("input_length", "isl"), ("output_length", "osl")):
        node = prompts.take(theirs)
        if node is None:
            continue
        given = Section(theirs, node) if node.is_mapping else Section(theirs, None)
        mean = given.take("mean", "value") if node.is_mapping else node
        found = length(node.origin, mean=mean, sd=given.take("stddev"), low=given.take("min"), high=given.take("max"))
        if found is None or given.items:
            raise ConfigError(f"{node.origin}: '{theirs}' is not a fixed or normal length")
        own.common[ours] = found
    if "output_length" not in own.common and not prompts.items:
        own.differing.append(_no_output_length(listed[0].origin))
    return not prompts.items


def _phases(own: Own, phases: list[Node]) -> Iterator[dict[str, Node]]:
    for node in phases:
        phase = Section("phases", node)
        name = phase.take("name")
        shape: dict[str, Node] = {}
        kind = phase.take("type")
        phase.move(shape, concurrency="concurrency", num_requests="requests", duration="duration", request_rate="rate")
        if kind is not None and kind.value == "concurrency":
            shape.setdefault("concurrency", Node(CONCURRENCY, kind.origin))
            _ramp(shape, phase)
        own.drop("gracePeriod", phase.take("gracePeriod"), "spec.benchmark.drain says how long to wait at the end")
        if name is not None and str(name.value).startswith("warmup"):
            own.common |= {"warmup": shape["duration"]} if "duration" in shape else {}
            if "duration" not in shape:
                own.drop("phases", node, "a warm-up is a time here: set 'warmup'")
            continue
        if kind is not None and kind.value != "concurrency":
            shape["arrival"] = _arrival(kind, phase.take("smoothness"))
        phase.refuse("a phase of aiperf", known=PHASE)
        yield shape


def _ramp(shape: dict[str, Node], phase: Section) -> None:
    """Its users start one after another, as ours do, where the ramp is linear."""
    node = phase.take("concurrencyRamp")
    if node is None:
        return
    given = Section("concurrencyRamp", node) if node.is_mapping else Section("concurrencyRamp", None)
    strategy = given.take("strategy")
    if strategy is not None and strategy.value != "linear":
        raise ConfigError(f"{strategy.origin}: concurrencyRamp '{strategy.plain()}' has no common key; 'linear' has")
    seconds = given.take("duration") if node.is_mapping else node
    if seconds is not None:
        shape["ramp"] = seconds


def _arrival(kind: Node, smoothness: Node | None) -> Node:
    if kind.value not in ("constant", "poisson", "gamma"):
        raise ConfigError(f"{kind.origin}: '{kind.plain()}' is no arrival; it is one of constant, poisson, gamma")
    if smoothness is None or kind.value != "gamma":
        return Node(kind.value, kind.origin)
    return Node({"type": kind, "burstiness": Node(number(smoothness, "smoothness"), smoothness.origin)}, kind.origin)


def _defaults(own: Own, file: Section) -> None:
    """What ``aiperf profile`` does where its options do not say."""
    if not file.says(*LOADS):
        own.defaults["concurrency"] = CONCURRENCY
    if not file.says("request_count", "num_requests", "benchmark_duration", "duration", "stages"):
        own.defaults["num_requests"] = REQUESTS
    if file.says("workload"):
        return
    if not file.says("synthetic_input_tokens_mean", "input_length"):
        own.defaults["input_length"] = INPUT_TOKENS
    if not file.says("output_tokens_mean", "output_length"):
        own.differing.append(_no_output_length(file.origin))


def _no_output_length(origin: str) -> str:
    return (
        f"{origin}: without an output length aiperf leaves it to the model; here every request asks for "
        "128 tokens, unless 'output_length' says otherwise"
    )


def _options(own: Own, file: Section) -> None:
    """Options of ``aiperf profile`` under their long names."""
    file.move(own.target, url="url", model="model_names")
    file.move(own.common, seed="random_seed", endpoint="endpoint_type", workers="workers_max")
    file.move(own.common, num_requests="request_count", duration="benchmark_duration")
    for ours, theirs in (("input_length", "synthetic_input_tokens"), ("output_length", "output_tokens")):
        mean, sd = file.take(f"{theirs}_mean"), file.take(f"{theirs}_stddev")
        if mean is not None:
            own.common[ours] = length(mean.origin, mean=mean, sd=sd) or mean
    for name in ("seed", "workers", "num_requests"):
        if name in own.common:
            own.common[name] = whole(own.common[name], name)
    file.move(own.common, ramp="concurrency_ramp_duration")
    pattern, smoothness = file.take("arrival_pattern"), file.take("arrival_smoothness")
    if pattern is not None or smoothness is not None:
        at = (pattern or smoothness or Node(None, file.origin)).origin
        own.common["arrival"] = _arrival(pattern or Node("gamma", at), smoothness)
    elif file.says("request_rate"):
        own.defaults["arrival"] = "poisson"
    timeout = file.take("request_timeout_seconds")
    if timeout is not None:
        own.common["timeouts"] = Node({"total": timeout}, timeout.origin)
    for name in ("artifact_dir", "output_artifact_dir"):
        own.drop(name, file.take(name), FOLDER)
    for name in ("ui", "use_server_token_count", "no_gpu_telemetry"):
        own.drop(name, file.take(name), "it is always so here")
    extra = file.take("extra_inputs")
    if extra is not None:
        own.common["parameters"] = Node(dict(_extra_inputs(extra)), extra.origin)


def _extra_inputs(node: Node) -> Iterator[tuple[str, Node]]:
    """A mapping, ``key:value,key:value``, JSON, or a list of these."""
    if node.is_mapping:
        yield from node.value.items()
    elif node.is_list:
        yield from chain.from_iterable(map(_extra_inputs, node.value))
    elif str(node.value).startswith("{"):
        try:
            yield from tree_of(json.loads(node.value), node.origin).value.items()
        except ValueError:
            raise ConfigError(f"{node.origin}: extra_inputs: '{node.value}' is no JSON") from None
    else:
        for pair in entries(node):
            key, colon, text = str(pair.value).partition(":")
            if not colon:
                raise ConfigError(f"{pair.origin}: extra_inputs: '{pair.plain()}' is no key:value")
            yield key.strip(), Node(_scalar(text.strip()), pair.origin)


def _scalar(text: str) -> bool | int | float | str | None:
    """A value as aiperf reads it. YAML would not do: 007, 1_000 and yes are text."""
    if (word := text.lower()) in ("true", "false", "none", "null"):
        return {"true": True, "false": False}.get(word)
    if re.fullmatch(r"-?(0|[1-9]\d*)", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?(\d+\.\d*|\.\d+)", text) else text


OWN_FILE = OwnFile(KEYS, read, within={"benchmark": BENCHMARK}, dashes=True)
