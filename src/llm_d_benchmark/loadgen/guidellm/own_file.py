"""guidellm's scenario files: the form of version 0.8 (``spec`` and ``benchmarks``) and the flat one before it."""

from __future__ import annotations

from collections.abc import Iterator

from ...config.foreign.own import LOADS, Own, OwnFile, Section, entries, length, number, stages, whole
from ...config.source import read_value
from ...config.tree import Node, tree_of
from ...domain.errors import ConfigError
from ...domain.quantities import parse_duration

SPEC_KEYS = frozenset(
    {
        "backend", "tokenizer", "profile", "data", "constraints", "outputs", "seed", "metrics", "data_column_mapper",
        "data_preprocessors", "data_finalizer", "data_loader",
    }
)  # fmt: skip
FLAT_KEYS = frozenset(
    {
        "target", "model", "processor", "profile", "rate_type", "rate", "data", "max_seconds", "max_requests",
        "random_seed", "request_type", "output_path", "output_dir", "warmup_percent", "cooldown_percent", "backend",
        "backend_type", "backend_args", "backend_kwargs", "max_errors",
    }
)  # fmt: skip
KEYS = frozenset({"spec", "benchmarks", "metadata"}) | SPEC_KEYS | FLAT_KEYS
FOLDER = "results go into the run folder"
_ENDPOINTS = {
    "/v1/completions": "completions", "/v1/chat/completions": "chat", "text_completions": "completions",
    "chat_completions": "chat",
}  # fmt: skip
_RATES = ("constant", "poisson")
_DATA = "write the whole as  native: {data: [{kind: ..., ...}]}"
_KIND = "openai_http"
_LENGTHS = tuple(f"{of}_tokens{side}" for of in ("prompt", "output") for side in ("", "_stdev", "_min", "_max"))


def read(file: Section) -> Own:
    """Load, lengths, limits, seed and server; what else it says is passed on.

    Raises:
        ConfigError: a value of the wrong kind, a load that is not said in common keys.
    """
    own = Own(defaults={"parameters": {"ignore_eos": True}})
    spec = Section("spec", file.take("spec"), file.beside) if "spec" in file.items else file
    spec.items = {k.replace("-", "_"): v for k, v in spec.items.items()}
    flat = isinstance(getattr(spec.items.get("profile"), "value", None), str) or bool(
        spec.items.keys() & {"target", "rate_type", "rate", "max_seconds", "max_requests"}
    )
    own.drop("metadata", file.take("metadata"), "it changes nothing of what is measured")
    benchmarks = file.take("benchmarks")
    over = [Section("benchmarks", b) for b in benchmarks.value] if benchmarks is not None and benchmarks.is_list else []
    profile = _flat(own, spec) if flat else _spec(own, spec)
    if profile is not None:
        _first(profile, over)
        _transients(own, profile)
        stages(own, _stages(list(_profile(profile)), over), spec.origin or file.origin)
        own.keep(profile)
    elif not file.says(*LOADS):
        at = next(iter(spec.items.values()), None)
        raise ConfigError(
            f"{at.origin if at is not None else file.origin}: guidellm needs a profile: it says how much load there is",
            advice="add  profile: {kind: concurrent, streams: 8}  or common keys such as concurrency",
        )
    if spec is not file:
        file.items |= spec.items
    for name in sorted(KEYS & file.items.keys()):
        own.native[name] = file.items.pop(name)
    return own


def _spec(own: Own, spec: Section) -> Section | None:
    backend = spec.section("backend")
    backend.move(own.target, url="target", model="model")
    backend.move(own.common, streaming="stream")
    _endpoint(own, backend.take("request_format"))
    timeout = backend.take("timeout")
    if timeout is not None:
        own.common["timeouts"] = Node({"total": timeout}, timeout.origin)
    kind = backend.items.get("kind")
    if kind is not None and kind.value == _KIND:
        backend.take("kind")
    own.keep(backend)
    _data(own, spec)
    _constraints(own, spec)
    seed = spec.take("seed")
    if seed is not None:
        own.common["seed"] = whole(Section("seed", seed).items.get("value", seed) if seed.is_mapping else seed, "seed")
    own.drop("outputs", spec.take("outputs"), FOLDER)
    profile = spec.take("profile")
    return None if profile is None else Section("profile", profile)


def _data(own: Own, spec: Section) -> None:
    """The lengths of synthetic text; any other source is passed on."""
    data = spec.take("data")
    if data is None:
        return
    listed = list(data.value) if data.is_list else [data]
    first = Section("data", listed[0]) if listed and listed[0].is_mapping else None
    kind = first.items.get("kind") if first is not None else None
    if first is None or len(listed) != 1 or (kind is not None and kind.value != "synthetic_text"):
        own.native["data"] = data if data.is_list else Node([data], data.origin)
        return
    first.take("kind")
    _lengths(own, first)
    first.refuse("guidellm's synthetic text", known=_LENGTHS, advice=_DATA)


def _lengths(own: Own, data: Section) -> None:
    for ours, theirs in (("input_length", "prompt_tokens"), ("output_length", "output_tokens")):
        mean = data.take(theirs)
        given = {side: data.take(f"{theirs}_{side}") for side in ("stdev", "min", "max")}
        if mean is None:
            continue
        bounded = given["stdev"] is None and given["min"] is not None and given["max"] is not None
        kind = "uniform" if bounded else "normal"
        found = length(mean.origin, mean=mean, sd=given["stdev"], low=given["min"], high=given["max"], kind=kind)
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


def _first(profile: Section, over: list[Section]) -> None:
    """What the first of ``benchmarks`` says may be left out of the profile."""
    for key, node in over[0].items.items() if over else ():
        profile.items.setdefault(key.removeprefix("profile."), node)


def _transients(own: Own, profile: Section) -> None:
    """Its warm-up and cool-down are parts of max_duration; ours are load beside the duration."""
    found = {n: node for n in ("warmup", "cooldown") if (node := profile.take(n)) is not None}
    if all(node.value == 0 for node in found.values()):
        own.common |= found
        return
    limit = own.common.get("duration")
    at = next(iter(found.values())).origin
    if limit is None:
        raise ConfigError(
            f"{at}: without a max_duration guidellm counts the warm-up in requests, which has no common key",
            advice="leave it out and set 'warmup' and 'cooldown' in seconds",
        )
    total = seconds = _seconds(limit, "max_duration")
    for name, node in found.items():
        part = _transient(name, node, total)
        own.common[name] = Node(part, node.origin)
        seconds -= part
    if seconds <= 0:
        raise ConfigError(f"{at}: warm-up and cool-down leave nothing of max_duration, {total:g} s")
    own.common["duration"] = Node(seconds, limit.origin)


def _seconds(node: Node, what: str) -> float:
    try:
        return parse_duration(node.value)
    except ValueError as error:
        raise ConfigError(f"{node.origin}: {what}: {error}") from None


def _transient(name: str, node: Node, total: float) -> float:
    """Seconds of a warm-up or cool-down: a number under 1 is a part of the whole, any other is seconds."""
    if not node.is_mapping:
        value = number(node, name)
        return value * total if value < 1 else value
    given = Section(name, node)
    mode, part, value_ = given.take("mode"), given.take("percent"), given.take("value")
    given.refuse(f"guidellm's {name}", known=("mode", "percent", "value"))
    if mode is not None and mode.value not in ("duration", "prefer_duration"):
        raise ConfigError(f"{mode.origin}: guidellm's {name} by '{mode.plain()}' has no common key: it is a time here")
    if part is None:
        return 0.0 if value_ is None else number(value_, name)
    share = number(part, f"{name}.percent")
    if not 0 <= share < 1:
        raise ConfigError(f"{part.origin}: {name}: {share:g} is no part of the whole: give a number from 0 to below 1")
    return share * total


def _profile(profile: Section) -> Iterator[dict[str, Node]]:
    """A shape of load for each rate or number of streams; what is left of the profile is the tool's."""
    kind = profile.take("kind", "type")
    at = profile.origin if kind is None else kind.origin
    name = "" if kind is None else str(kind.value)
    if name == "synchronous":
        yield {"concurrency": Node(1, at), **_ramp(profile)}
    elif name == "concurrent":
        streams = profile.take("streams", "rate")
        if streams is None:
            raise ConfigError(f"{at}: profile 'concurrent' needs streams")
        ramp = _ramp(profile)
        for count in entries(streams):
            yield {"concurrency": whole(count, "streams"), **ramp}
    elif name in (*_RATES, "async"):
        cap = profile.take("max_concurrency")
        rate = profile.take("rate")
        if rate is None:
            raise ConfigError(f"{at}: profile '{name}' needs a rate")
        for value in entries(rate):
            shape = {"request_rate": Node(number(value, "rate"), value.origin)}
            shape["arrival"] = Node("poisson" if name == "poisson" else "constant", at)
            yield shape if cap is None else {**shape, "concurrency": whole(cap, "max_concurrency")}
    else:
        raise ConfigError(
            f"{at}: guidellm's profile '{name}' chooses its loads itself, which has no common key",
            advice="write  sweep: {over: rate}  or  stages:  in common keys instead",
        )


def _ramp(profile: Section) -> dict[str, Node]:
    node = profile.take("rampup_duration")
    return {} if node is None else {"ramp": node}


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
        one.refuse("a guidellm benchmark", known=("profile.streams", "profile.rate"))
        yield shape


def _endpoint(own: Own, node: Node | None) -> None:
    if node is None:
        return
    if node.value not in _ENDPOINTS:
        raise ConfigError(f"{node.origin}: '{node.plain()}' is no endpoint; it is one of {', '.join(_ENDPOINTS)}")
    own.common["endpoint"] = Node(_ENDPOINTS[node.value], node.origin)


def _flat(own: Own, file: Section) -> Section | None:
    """The form of versions before 0.8, as its command line had it."""
    file.move(own.target, url="target", model="model")
    file.move(own.common, duration="max_seconds", num_requests="max_requests", seed="random_seed")
    _endpoint(own, file.take("request_type"))
    for name in ("output_path", "output_dir"):
        own.drop(name, file.take(name), FOLDER)
    for name in ("backend", "backend_type"):
        if name in file.items and file.items[name].value == _KIND:
            file.take(name)
    data = file.items.get("data")
    if data is not None and isinstance(data.value, str):
        file.items["data"] = _options(data)
    _data(own, file)
    processor = file.take("processor")
    if processor is not None:
        own.native["tokenizer"] = Node({"model": processor}, processor.origin)
    kind, profile = file.take("profile", "rate_type"), {}
    for name, theirs in (("rate", "rate"), ("warmup", "warmup_percent"), ("cooldown", "cooldown_percent")):
        node = file.take(theirs)
        if node is None:
            continue
        if kind is None:
            raise ConfigError(
                f"{node.origin}: '{theirs}' has no effect without a profile",
                advice="add  profile: constant  (a rate), or  profile: concurrent  (streams)",
            )
        profile[name] = node if name == "rate" else Node({"percent": node}, node.origin)
    Section("", Node({k: v for k, v in file.items.items() if k in FLAT_KEYS - SPEC_KEYS}, "")).refuse(
        "guidellm", advice="leave it out, or write it as guidellm 0.8 does under native"
    )
    if kind is None:
        return None
    return Section("profile", Node({**(kind.value if kind.is_mapping else {"kind": kind}), **profile}, kind.origin))


def _options(data: Node) -> Node:
    """The keys of synthetic text as its command line had them: ``prompt_tokens=64,output_tokens=16``, or JSON."""
    value = read_value(data.value, data.origin) if data.value.lstrip().startswith("{") else None
    if isinstance(value, dict):
        return tree_of(value, data.origin)
    pairs = [part.partition("=") for part in data.value.split(",")]
    if not all(sign for _, sign, _ in pairs):
        raise ConfigError(f"{data.origin}: data '{data.value}' is a source of guidellm's own", advice=_DATA)
    return Node({key.strip(): Node(value.strip(), data.origin) for key, _, value in pairs}, data.origin)


OWN_FILE = OwnFile(KEYS, read, within={"spec": SPEC_KEYS})
