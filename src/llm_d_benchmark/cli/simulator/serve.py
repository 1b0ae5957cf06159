"""``llm-d-benchmark simulator serve``: a simulated deployment to point clients at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT_PORT = 8000


def serve(
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration file; its spec.target.simulator counts. Later ones win."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Set one key, e.g. spec.target.simulator.replicas=4."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="The router's; the replicas' follow it. Default: 8000; 0: free ones.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
) -> int:
    """Serve a simulated deployment until Ctrl-C: the OpenAI API with vLLM's timing and /metrics, without a GPU.

    Examples:

      llm-d-benchmark simulator serve

      llm-d-benchmark simulator serve --set spec.target.simulator.profile=llama-3.1-70b/h100 --set
      spec.target.simulator.tensor_parallel_size=4 --set spec.target.simulator.replicas=2 --port 9000
    """
    from ...config.resolve import resolve_target
    from ...domain.errors import ConfigError
    from ...simulator.server.serve import run
    from ...simulator.server.sockets import listen
    from .. import arguments as parse
    from ..findings import tell

    given: dict[str, Any] = {"type": "simulator"}
    if port:
        given["simulator"] = {"port": port}
    loaded = parse.load(config, sets=sets, overrides={"spec": {"target": given}})
    settings = resolve_target(loaded.config).simulator
    if settings is None:
        raise ConfigError("the configuration describes no simulator", advice="spec.target: {simulator: {...}}")
    tell(loaded.warnings)
    wanted = None if port == 0 else settings.port or DEFAULT_PORT
    sockets = listen(host, wanted, 1 + settings.replicas)
    with loaded.locating():
        run(settings, sockets, host=host, say=typer.echo)
    typer.echo("stopped", err=True)
    return 0
