"""guidellm's scenario files: the form of version 0.8 (``spec`` and ``benchmarks``) and the flat one before it."""

from __future__ import annotations

from collections.abc import Iterator

from ...config.foreign.own import Own, OwnFile, Section, entries, length, number, stages, whole
from ...config.tree import Node
from ...domain.errors import ConfigError

SPEC_KEYS = frozenset({"backend", "tokenizer", "profile", "data", "constraints", "outputs", "seed", "metrics"})
FLAT_KEYS = frozenset(
    {
        "target", "model", "processor", "profile", "rate_type", "rate", "data", "max_seconds", "max_requests",
        "random_seed", "request_type", "output_path", "output_dir", "warmup_percent", "cooldown_percent", "backend",
        "backend_type", "backend_args", "backend_kwargs", "max_errors",
    }
)  # fmt: skip
KEYS = frozenset({"spec", "benchmarks"}) | SPEC_KEYS | FLAT_KEYS
FOLDER = "results go into the run folder"
_ENDPOINTS = {
    "/v1/completions": "completions", "/v1/chat/completions": "chat", "text_completions": "completions",
    "chat_completions": "chat",
}  # fmt: skip
_RATES = ("constant", "poisson")


def read(file: Section) -> Own:
    """Load, lengths, limits, seed and server; what else it says is passed on.

    Raises:
        ConfigError: a value of the wrong kind, a load that is not said in common keys.
    """
    own = Own()
    spec = Section("spec", file.take("spec")) if "spec" in file.items else file
    flat = isinstance(getattr(spec.items.get("profile"), "value", None), str) or bool(
        spec.items.keys() & {"target", "rate_type", "rate", "max_seconds", "max_requests"}
    )
    benchmarks = file.take("benchmarks")
    profiles = _flat(own, spec) if flat else _spec(own, spec)
    over = [Section("benchmarks", b) for b in benchmarks.value] if benchmarks is not None and benchmarks.is_list else []
    stages(own, _stages(profiles, over), spec.origin or file.origin)
    if spec is not file:
        for name in sorted(SPEC_KEYS & spec.items.keys()):
            own.native[name] = spec.items.pop(name)
    for name in sorted(KEYS & file.items.keys()):
        own.native[name] = file.items.pop(name)
    return own


def _spec(own: Own, spec: Section) -> list[dict[str, Node]]:
    backend = spec.section("backend")
    backend.move(own.target, url="target", model="model")
    backend.move(own.common, streaming="stream")
    _endpoint(own, backend.take("request_format"))
    timeout = backend.take("timeout")
    if timeout is not None:
        own.common["timeouts"] = Node({"total": timeout}, timeout.origin)
    kind = backend.items.get("kind")
    if kind is not None and kind.value == "openai_http":
        backend.take("kind")
    own.keep(backend)
    _synthetic(own, spec)
    _constraints(own, spec)
    seed = spec.take("seed")
    if seed is not None:
        own.common["seed"] = whole(Section("seed", seed).items.get("value", seed) if seed.is_mapping else seed, "seed")
    own.drop("outputs", spec.take("outputs"), FOLDER)
    profile = spec.take("profile")
    return list(_profile(Section("profile", profile), profile)) if profile is not None else [{}]


def _synthetic(own: Own, spec: Section) -> None:
    data = spec.take("data")
    if data is None:
        return
    listed = list(data.value) if data.is_list else [data]
    first = Section("data", listed[0]) if listed and listed[0].is_mapping else None
    kind = first.items.get("kind") if first is not None else None
    if first is None or len(listed) != 1 or (kind is not None and kind.value != "synthetic_text"):
        own.native["data"] = data
        return
    first.take("kind")
    _lengths(own, first)
    for key, value in first.items.items():
        raise ConfigError(f"{value.origin}: '{key}' of guidellm's synthetic text has no common key")


def _lengths(own: Own, data: Section) -> None:
    for ours, theirs in (("input_length", "prompt_tokens"), ("output_length", "output_tokens")):
        mean = data.take(theirs)
        given = {side: data.take(f"{theirs}_{side}") for side in ("stdev", "min", "max")}
        if mean is None:
            continue
        bounded = given["stdev"] is None and given["min"] is not None and given["max"] is not None
        found = length(mean.origin, mean=mean, sd=given["stdev"], low=given["min"], high=given["max"], uniform=bounded)
        if found is not None:
            own.common[ours] = found


def _constraints(own: Own, spec: Section) -> None:
    listed = spec.take("constraints")
    if listed is None:
        return
    found: dict[str, Node] = {}
    for node in entries(listed):
        one = Section("constraints", node)
        kind = one.take("kind")
        name = "" if kind is None else str(kind.value)
        count, seconds = one.take("count"), one.take("seconds")
        if name == "max_requests" and count is not None:
            found["num_requests"] = whole(count, "count")
        elif name == "max_duration" and seconds is not None:
            found["duration"] = seconds
        else:
            raise ConfigError(
                f"{node.origin}: constraint '{name}' has no common key",
                advice="leave it out, or give all constraints under native.constraints",
            )
    own.common |= found


def _profile(profile: Section, node: Node) -> Iterator[dict[str, Node]]:
    """A shape of load for each rate or number of streams."""
    kind = profile.take("kind", "type")
    name = "" if kind is None else str(kind.value)
    if name == "synchronous":
        yield {"concurrency": Node(1, node.origin)}
    elif name == "concurrent":
        for streams in entries(profile.take("streams", "rate") or Node(1, node.origin)):
            yield {"concurrency": whole(streams, "streams")}
    elif name in (*_RATES, "async"):
        cap = profile.take("max_concurrency")
        rate = profile.take("rate")
        if rate is None:
            raise ConfigError(f"{node.origin}: profile '{name}' needs a rate")
        for value in entries(rate):
            shape = {"request_rate": Node(number(value, "rate"), value.origin)}
            shape["arrival"] = Node("poisson" if name == "poisson" else "constant", node.origin)
            yield shape if cap is None else {**shape, "concurrency": whole(cap, "max_concurrency")}
    else:
        raise ConfigError(
            f"{node.origin}: guidellm's profile '{name}' chooses its loads itself, which has no common key",
            advice="write  sweep: {over: rate}  or  stages:  in common keys instead",
        )


def _stages(profiles: list[dict[str, Node]], over: list[Section]) -> Iterator[dict[str, Node]]:
    """The profiles, each changed as the entries of ``benchmarks`` say."""
    if not over:
        yield from profiles
    for one in over:
        shape = dict(profiles[0])
        streams, rate = one.take("profile.streams"), one.take("profile.rate")
        if streams is not None:
            shape["concurrency"] = whole(streams, "profile.streams")
        if rate is not None:
            shape["request_rate"] = Node(number(rate, "profile.rate"), rate.origin)
        for key, value in one.items.items():
            raise ConfigError(f"{value.origin}: '{key}' of a guidellm benchmark has no common key")
        yield shape


def _endpoint(own: Own, node: Node | None) -> None:
    if node is None:
        return
    if node.value not in _ENDPOINTS:
        raise ConfigError(f"{node.origin}: '{node.plain()}' is no endpoint; it is one of {', '.join(_ENDPOINTS)}")
    own.common["endpoint"] = Node(_ENDPOINTS[node.value], node.origin)


def _flat(own: Own, file: Section) -> list[dict[str, Node]]:
    """The form of versions before 0.8, as its command line had it."""
    file.move(own.target, url="target", model="model")
    file.move(own.common, duration="max_seconds", num_requests="max_requests", seed="random_seed")
    _endpoint(own, file.take("request_type"))
    for name in ("output_path", "output_dir"):
        own.drop(name, file.take(name), FOLDER)
    data = file.items.get("data")
    if data is not None and isinstance(data.value, str) and "=" in data.value:
        file.take("data")
        pairs = [part.partition("=") for part in data.value.split(",")]
        _lengths(
            own, Section("data", Node({k.strip(): Node(v.strip(), data.origin) for k, _, v in pairs}, data.origin))
        )
    elif data is not None and data.is_mapping:
        _lengths(own, file.section("data"))
    processor = file.take("processor")
    if processor is not None:
        own.native["tokenizer"] = Node({"model": processor}, processor.origin)
    kind, rate = file.take("profile", "rate_type"), file.take("rate")
    if kind is None:
        return [{}]
    values = {"kind": kind} | ({"rate": rate} if rate is not None else {})
    return list(_profile(Section("profile", Node(values, kind.origin)), kind))


OWN_FILE = OwnFile(KEYS, read, within={"spec": SPEC_KEYS})
