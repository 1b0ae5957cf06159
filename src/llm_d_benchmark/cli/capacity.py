"""``llm-d-benchmark capacity``: replicas, GPUs and cost for a load; and what fits into memory."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..perfmodel.memory import Deployment, ModelMemory, Sizing

HELP = "Plan replicas, GPUs and cost for a load, within objectives; size memory."
app = typer.Typer(help=HELP, invoke_without_command=True, rich_markup_mode=None)


class CacheType(StrEnum):
    BFLOAT16 = "bfloat16"
    FP8 = "fp8"


@app.callback()
def capacity(
    context: typer.Context,
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration file; its spec.capacity_planning says what is planned."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Set one key, e.g. spec.capacity_planning.zones=2."),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN...", help="Measured runs of one deployment, at four levels of load or more."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the plan and its report.")] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Simulate what is planned, in virtual time.")
    ] = True,
    json_output: Annotated[bool, typer.Option("--json", help="Print the plan as JSON on stdout.")] = False,
) -> int | None:
    """Plan replicas, GPUs and cost for the scenarios of spec.capacity_planning, within spec.performance_targets.

    Without --runs a replica's speed comes from published figures of its hardware (a roofline), and the plan says so.

    Examples:

      llm-d-benchmark capacity -c examples/capacity.yaml -o plan

      llm-d-benchmark capacity -c examples/mission/advanced_config.yaml --runs results/a results/b

      llm-d-benchmark capacity memory --model llama-3.1-70b --gpu h100 --tp 4
    """
    if context.invoked_subcommand is not None:
        return None
    from ..domain.errors import ConfigError
    from ..report.capacity import lines, render_files
    from ..report.capacity_page import render_html
    from ..runner.capacity import make_plan
    from ..store.comparison_json import to_json
    from ..store.files import write_text_anywhere
    from . import arguments as parse
    from .findings import tell

    if not config and not runs and not sets:
        raise ConfigError("there is nothing to plan for", advice="give -c FILE; examples/capacity.yaml is one")
    loaded = parse.load(config, sets=sets)
    tell(loaded.warnings)
    found = make_plan(loaded.config, runs or [], check=check, say=lambda text: typer.echo(text, err=True))
    if output is not None:
        page = {"capacity.json": to_json(found), "capacity.html": render_html(found, parse.command_line(loaded))}
        for name, text in {**page, **render_files(found)}.items():
            write_text_anywhere(output / name, text)
    typer.echo(to_json(found) if json_output else lines(found), nl=not json_output)
    if output is not None:
        typer.echo(f"report: {output / 'capacity.html'}", err=True)
    return 0


@app.command("memory")
def memory(
    model: Annotated[str, typer.Option(help="A model of the table, or a folder with its config.json.")],
    gpu: Annotated[str | None, typer.Option(help="A GPU of the table; default: compare all of them.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of one GPU instead, e.g. 80Gi.")] = None,
    tp: Annotated[
        int | None, typer.Option(min=1, help="Tensor parallel size; default: the smallest that fits.")
    ] = None,
    pp: Annotated[int, typer.Option(min=1, help="Pipeline parallel size.")] = 1,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence; default: 8192.")] = None,
    max_num_seqs: Annotated[int, typer.Option(min=1, help="Sequences in one batch.")] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(min=1, help="Tokens in one step.")] = 8192,
    gpu_memory_utilization: Annotated[float, typer.Option(min=0.01, max=1, help="Part of the memory in use.")] = 0.9,
    kv_cache_dtype: Annotated[CacheType, typer.Option(help="Elements of the KV cache.")] = CacheType.BFLOAT16,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON on stdout.")] = False,
) -> int:
    """What fits into the memory of GPUs: weights, KV cache, sequences, the longest context; or how many GPUs it takes.

    Examples:

      llm-d-benchmark capacity memory --model llama-3.1-70b --gpu h100 --tp 4

      llm-d-benchmark capacity memory --model /models/my-model --context 32768
    """
    from ..capacity import models
    from ..domain.errors import ConfigError
    from ..domain.quantities import parse_bytes
    from ..perfmodel.memory import Deployment
    from ..simulator.profiles.tables import hardware

    if gpu is not None and memory is not None:
        raise ConfigError("--gpu and --memory both say how much memory there is; give one of them")
    found = models.model(model)
    try:
        given = {f"GPU of {memory}": float(parse_bytes(memory))} if memory else None
    except ValueError as error:
        raise ConfigError(f"--memory: {error}") from None
    rows = [models.gpu(gpu)] if gpu else list(hardware().values())
    gpus = given or {row.name: float(row.memory) for row in rows}
    wanted = min(context or 8192, found.longest) if context is None else context
    sized = {}
    for name, size in gpus.items():
        on = Deployment(
            memory=size,
            tensor_parallel=tp or 1,
            pipeline_parallel=pp,
            utilization=gpu_memory_utilization,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max(max_num_batched_tokens, max_num_seqs),
            kv_bytes=1.0 if kv_cache_dtype is CacheType.FP8 else 2.0,
        )
        sized[name] = _sized(found, on, wanted, tp)
    _show_memory(found, sized, json_output)
    return 0 if any(s.fits for _, s in sized.values()) else 3


def _sized(model: ModelMemory, on: Deployment, context: int, tp: int | None) -> tuple[Deployment, Sizing]:
    from dataclasses import replace

    from ..perfmodel.memory import fewest_gpus, size

    if tp is None:
        on = replace(on, tensor_parallel=fewest_gpus(model, on, context) or 1)
    return on, size(model, on, context)


def _show_memory(model: ModelMemory, sized: dict[str, tuple[Deployment, Sizing]], json_output: bool) -> None:
    import json
    from dataclasses import asdict

    if json_output:
        data = {
            "model": asdict(model) | {"weight_bytes": model.weight_bytes},
            "gpus": {name: {"gpus": on.gpus, **asdict(on), **asdict(s)} for name, (on, s) in sized.items()},
        }
        typer.echo(json.dumps(data, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1))
    heads = ("GPUs", "weights", "activations", "engine", "KV cache", "KV/token", "tokens", "sequences", "longest")
    table.add_column("GPU", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name, (on, s) in sized.items():
        parts = [f"{v / 2**30:.1f}" for v in (s.weights, s.activations, s.non_torch, s.kv_budget)]
        counts = [f"{v:,}" for v in (s.kv_tokens, s.sequences, s.longest)]
        said = f"limited by {s.limited_by}" if s.fits else f"does not fit: {s.limited_by}"
        table.add_row(name, str(on.gpus), *parts, f"{s.kv_token / 1024:.1f} KiB", *counts, said)
    context = next(iter(sized.values()))[1].context
    console = Console(highlight=False, width=170)
    console.print(f"{model.name}: weights {model.weight_bytes / 2**30:.1f} GiB ({model.source})")
    console.print(f"of each GPU, in GiB; tokens: in the KV cache of all; sequences: of {context:,} tokens")
    console.print(table)
