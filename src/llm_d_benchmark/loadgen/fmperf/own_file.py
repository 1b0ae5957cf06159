"""fmperf's environment variables, as a file of keys (also under ``env``)."""

from __future__ import annotations

from ...config.foreign.own import Own, OwnFile, Section, entries, length, stages, whole
from ...config.tree import Node

FOLDER = "requests and results go into the run folder"
KEYS = frozenset(
    {
        "TARGET", "URL", "REQUESTS_DIR", "REQUESTS_FILENAME", "RESULTS_FILENAME", "RESULTS_ALL_FILENAME",
        "MIN_INPUT_TOKENS", "MAX_INPUT_TOKENS", "MIN_OUTPUT_TOKENS", "MAX_OUTPUT_TOKENS", "FRAC_GREEDY", "SAMPLE_SIZE",
        "OVERWRITE", "NUM_USERS", "SWEEP_USERS", "DURATION", "BACKOFF", "GRACE_PERIOD", "env",
    }
)  # fmt: skip


def read(file: Section) -> Own:
    """Users, lengths, duration and server; what else it says is passed on.

    Raises:
        ConfigError: a value of the wrong kind.
    """
    own = Own(defaults={"parameters": {"ignore_eos": True}})  # as its own request generator writes them
    inner = file.take("env")
    if inner is not None:
        file.items |= Section("env", inner).items
    url = file.take("URL")
    if url is not None:
        text = str(url.value)
        own.target["url"] = Node(text if "://" in text else f"http://{text}", url.origin)
    for ours, theirs in (("input_length", "INPUT"), ("output_length", "OUTPUT")):
        low, high = file.take(f"MIN_{theirs}_TOKENS"), file.take(f"MAX_{theirs}_TOKENS")
        one = low or high
        found = length(one.origin, low=low or high, high=high or low) if one is not None else None
        if found is not None:
            own.common[ours] = found
    file.move(own.common, duration="DURATION")
    users, sweep = file.take("NUM_USERS"), file.take("SWEEP_USERS")
    listed = entries(sweep) if sweep is not None else [users] if users is not None else []
    stages(own, [{"concurrency": whole(n, "users")} for n in listed], file.origin)
    for name in ("REQUESTS_DIR", "REQUESTS_FILENAME", "RESULTS_FILENAME", "RESULTS_ALL_FILENAME", "OVERWRITE"):
        own.drop(name, file.take(name), FOLDER)
    own.drop("TARGET", file.take("TARGET"), "fmperf is run against the OpenAI API of any server")
    for name in sorted(KEYS & file.items.keys()):
        own.native[name.lower()] = file.items.pop(name)
    return own


OWN_FILE = OwnFile(KEYS, read)
