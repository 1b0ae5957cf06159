"""From an address to an endpoint that is known to answer, with its model and its identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..config.spelling import closest
from ..domain.endpoint import Endpoint
from ..domain.errors import TargetError
from .identity import Listed
from .probe import ServerProbe

PASTED = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1")
SHOWN = 10


def normalise_url(url: str) -> str:
    """The base URL: no trailing slash, and without the API's own part where the user gave it."""
    url = url.rstrip("/")
    return next((url.removesuffix(end) for end in PASTED if url.endswith(end)), url).rstrip("/")


async def attach(endpoint: Endpoint, info: Mapping[str, object]) -> Endpoint:
    """The endpoint with its model chosen and ``info`` completed by the server's identity.

    Raises:
        TargetError: the server does not answer, refuses the key, or does not have the model.
    """
    async with ServerProbe(endpoint) as probe:
        listed = await probe.models()
        model = choose_model(endpoint.model, listed, endpoint.url)
        identity = await probe.identify_as(model, listed)
    facts: dict[str, object] = {**info, **identity.info(), "headers": sorted(endpoint.headers)}
    if listed is not None:
        facts["models"] = [m.id for m in listed]
    return replace(endpoint, model=model, info=facts)


def choose_model(wanted: str | None, listed: Sequence[Listed] | None, url: str) -> str:
    """The model to ask for: the wanted one if the server has it, else the first one listed.

    Raises:
        TargetError: it is not listed, or nothing says which model there is.
    """
    if not listed:
        if wanted is None:
            what = "does not list its models" if listed is None else "lists no model"
            raise TargetError(
                f"{url} {what}, so the model's name must be given",
                advice="--model NAME, or spec.target.existing.model; should it list them? Then check the URL's path",
            )
        return wanted
    names = [name for m in listed for name in dict.fromkeys((m.id, *m.aliases))]
    if wanted is None:
        return listed[0].id
    if wanted not in names:
        near = closest(wanted, names)
        raise TargetError(
            f"the server has no model '{wanted}'" + (f"; did you mean '{near}'?" if near else ""),
            advice="it lists: " + ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else ""),
        )
    return wanted
