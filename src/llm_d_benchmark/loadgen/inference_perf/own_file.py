"""inference-perf's config.yml."""

from __future__ import annotations

from ...config.foreign.own import Own, OwnFile, Section, length, no_secret, stages, whole
from ...config.tree import Node
from ...domain.errors import ConfigError

KEYS = frozenset(
    {"api", "data", "load", "server", "tokenizer", "report", "storage", "metrics", "circuit_breakers", "telemetry"}
)
_DISTRIBUTION = {"mean": 512, "std_dev": 200, "min": 10, "max": 1024}
"""What inference-perf takes where a distribution does not say."""
FOLDER = "results go into the run folder, with everything that is needed of them"


def read(file: Section) -> Own:
    """Stages, lengths, server and API; what else it says is passed on.

    Raises:
        ConfigError: a value of the wrong kind, a load that is not said in common keys.
    """
    own = Own()
    api = file.section("api")
    api.move(own.common, streaming="streaming")
    kind = api.take("type")
    if kind is not None:
        own.common["endpoint"] = Node("chat" if kind.value == "chat" else "completions", kind.origin)
    own.defaults |= {"streaming": False, "parameters": {"ignore_eos": True}}
    own.keep(api)
    _server(own, file.section("server"))
    _data(own, file.section("data"))
    _load(own, file.section("load"))
    for name in ("report", "storage"):
        own.drop(name, file.take(name), FOLDER)
    for name in sorted(KEYS & file.items.keys()):
        own.keep(file.section(name))
    return own


def _server(own: Own, server: Section) -> None:
    server.move(own.target, url="base_url", model="model_name")
    no_secret(server.take("api_key"), "server.api_key")
    ignore = server.take("ignore_eos")
    if ignore is not None:
        own.common["parameters"] = Node({"ignore_eos": ignore}, ignore.origin)
    kind = server.items.get("type")
    if kind is not None and kind.value == "vllm":
        server.take("type")
    own.keep(server)


def _data(own: Own, data: Section) -> None:
    kind = data.items.get("type")
    if kind is not None and kind.value not in ("random", "synthetic"):
        own.keep(data)
        return
    data.take("type")
    for ours, theirs in (("input_length", "input_distribution"), ("output_length", "output_distribution")):
        node = data.take(theirs)
        if node is None:
            continue
        own.common[ours] = _length(Section(theirs, node), ours)
    own.keep(data)


def _length(given: Section, ours: str) -> Node:
    """A distribution of its own, with its bounds and spread where they are left out."""
    kind = given.take("type")
    name = "normal" if kind is None else "fixed" if kind.value == "constant" else str(kind.value)
    values = {k: given.take(k) or Node(default, given.origin) for k, default in _DISTRIBUTION.items()}
    given.take("total_count")
    if name not in ("fixed", "uniform", "normal", "lognormal") or given.items:
        at = next(iter(given.items.values()), kind or Node(None, given.origin)).origin
        raise ConfigError(
            f"{at}: {given.name} is not a fixed, uniform, normal or lognormal length",
            advice=f"write it as {ours}: {{distribution: ..., ...}}",
        )
    spread = None if name == "fixed" else values["std_dev"]
    found = length(given.origin, mean=values["mean"], sd=spread, low=values["min"], high=values["max"], kind=name)
    return found or values["mean"]


def _load(own: Own, load: Section) -> None:
    load.move(own.common, workers="num_workers", seed="base_seed")
    timeout = load.take("request_timeout")
    if timeout is not None:
        own.common["timeouts"] = Node({"total": timeout}, timeout.origin)
    kind, listed = load.take("type"), load.take("stages")
    name = "constant" if kind is None else str(kind.value)
    if listed is not None and name not in ("concurrent", "constant", "poisson"):
        at = (kind or listed).origin
        raise ConfigError(f"{at}: load.type '{name}' cannot be said in common keys", advice="use concurrent or poisson")
    found: list[dict[str, Node]] = []
    for node in listed.value if listed is not None and listed.is_list else []:
        stage = Section("stages", node)
        shape: dict[str, Node] = {}
        stage.move(shape, request_rate="rate", duration="duration")
        for ours, theirs in (("num_requests", "num_requests"), ("concurrency", "concurrency_level")):
            count = stage.take(theirs)
            if count is not None:
                shape[ours] = whole(count, theirs)
        if "request_rate" in shape:
            shape["arrival"] = Node(name if name == "poisson" else "constant", node.origin)
        stage.refuse("a stage of inference-perf", known=("rate", "duration", "num_requests", "concurrency_level"))
        found.append(shape)
    stages(own, found, listed.origin if listed is not None else "")
    own.keep(load)


OWN_FILE = OwnFile(KEYS, read)
