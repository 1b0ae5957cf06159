"""The options of ``vllm bench serve`` as keys, with dashes or underscores."""

from __future__ import annotations

from ...config.foreign.own import LOADS, Own, OwnFile, Section, number, whole
from ...config.tree import Node
from ...domain.errors import ConfigError

FOLDER = "results go into the run folder"
KEYS = frozenset(
    {
        "base_url", "host", "port", "model", "served_model_name", "tokenizer", "dataset_name", "dataset_path",
        "random_input_len", "random_output_len", "random_range_ratio", "random_prefix_len", "num_prompts",
        "max_concurrency", "burstiness", "ignore_eos", "backend", "endpoint_type", "result_dir", "result_filename",
        "save_result", "save_detailed", "percentile_metrics", "metric_percentiles", "disable_tqdm", "temperature",
        "top_p", "top_k", "trust_remote_code", "goodput", "label", "extra_body", "num_warmups", "ramp_up_strategy",
        "ramp_up_start_rps", "ramp_up_end_rps", "input_len", "output_len",
    }
)  # fmt: skip
HOST, PORT = "127.0.0.1", 8000
PROMPTS, INPUT_TOKENS, OUTPUT_TOKENS = 1000, 1024, 128
"""What ``vllm bench serve`` takes where its options do not say."""
_ALWAYS = ("save_result", "save_detailed", "percentile_metrics", "metric_percentiles", "disable_tqdm")


def read(file: Section) -> Own:
    """Load, lengths, seed and server; what else it says is passed on.

    Raises:
        ConfigError: a value of the wrong kind.
    """
    own = Own()
    file.items = {k.replace("-", "_"): v for k, v in file.items.items()}
    _server(own, file)
    dataset = file.items.get("dataset_name")
    if dataset is not None and dataset.value == "random":
        file.take("dataset_name")
    if not file.says("dataset_name", "workload"):
        own.defaults |= {"input_length": INPUT_TOKENS, "output_length": OUTPUT_TOKENS}
    if not file.says("duration", "stages"):
        own.defaults["num_requests"] = PROMPTS
    for ours, *theirs in (
        ("input_length", "input_len", "random_input_len"),
        ("output_length", "output_len", "random_output_len"),
        ("num_requests", "num_prompts"),
        ("concurrency", "max_concurrency"),
    ):
        node = file.take(*theirs)
        if node is not None:
            own.common[ours] = whole(node, theirs[-1])
    _rate(own, file)
    parameters = {k: n for k in ("ignore_eos", "temperature", "top_p", "top_k") if (n := file.take(k)) is not None}
    if parameters:
        own.common["parameters"] = Node(parameters, next(iter(parameters.values())).origin)
    for name in ("result_dir", "result_filename"):
        own.drop(name, file.take(name), FOLDER)
    for name in _ALWAYS:
        own.drop(name, file.take(name), "it is always so here")
    for name in sorted(KEYS & file.items.keys()):
        own.native[name] = file.items.pop(name)
    return own


def _server(own: Own, file: Section) -> None:
    file.move(own.target, url="base_url", model="model")
    host, port = file.take("host"), file.take("port")
    given = host or port
    if given is not None and "url" not in own.target:
        url = f"http://{HOST if host is None else host.value}:{PORT if port is None else port.value}"
        own.target["url"] = Node(url, given.origin)
    backend, endpoint = file.take("backend", "endpoint_type"), file.items.get("endpoint")
    path = "" if endpoint is None else str(endpoint.value)
    if path.startswith("/"):
        file.take("endpoint")
        kind = "chat" if "chat" in path else "completions"
        own.common["endpoint"] = Node(kind, (endpoint or file.items["endpoint"]).origin if endpoint else "")
    elif backend is not None:
        own.common["endpoint"] = Node("chat" if "chat" in str(backend.value) else "completions", backend.origin)


def _rate(own: Own, file: Section) -> None:
    """Its arrivals are gamma with the given burstiness; 1, the default, is Poisson. ``inf`` is no rate at all."""
    rate, burstiness = file.take("request_rate"), file.take("burstiness")
    ramp = file.items.get("ramp_up_strategy")
    if ramp is not None:
        raise ConfigError(
            f"{ramp.origin}: vllm's ramp-up of the request rate has no common key for vllm-bench",
            advice="list the rates as 'stages', or use the native generator with  arrival: {type: ramp, from: , to: }",
        )
    if rate is None or str(rate.value).lower().strip(".") == "inf":
        if "concurrency" not in own.common and not file.says(*LOADS):
            raise ConfigError(
                f"{file.origin if rate is None else rate.origin}: an endless request rate"
                f"{' (what vllm takes where the file gives none)' if rate is None else ''} sends everything at once",
                advice="set max_concurrency to as many requests as should be in flight, or a request_rate",
            )
        own.drop("burstiness", burstiness, "it shapes a request rate, and there is none")
        return
    own.common["request_rate"] = Node(number(rate, "request_rate"), rate.origin)
    value = 1.0 if burstiness is None else number(burstiness, "burstiness")
    at = rate.origin if burstiness is None else burstiness.origin
    gamma = {"type": Node("gamma", at), "burstiness": Node(value, at)}
    own.common["arrival"] = Node("poisson", at) if value == 1.0 else Node(gamma, at)


OWN_FILE = OwnFile(KEYS, read, shared=frozenset({"endpoint", "request_rate"}), dashes=True)
