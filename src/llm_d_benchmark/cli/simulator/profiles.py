"""``llm-d-benchmark simulator profiles``: what can be simulated, and what it is based on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...config.simulator import SimulatorTargetConfig
    from ...simulator.profiles.tables import Hardware, ModelShape


def profiles(
    name: Annotated[
        str | None, typer.Argument(help="MODEL/HARDWARE or a profile file; default: list them all.")
    ] = None,
    tensor_parallel_size: Annotated[int, typer.Option(min=1, help="GPUs of one replica.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the profile as a file, to change and to simulate.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON on stdout.")] = False,
) -> int:
    """List the models and hardware that can be simulated, with their sources; or show one profile.

    Examples:

      llm-d-benchmark simulator profiles

      llm-d-benchmark simulator profiles llama-3.1-70b/h100 --tensor-parallel-size 4
    """
    from ...config.simulator import SimulatorTargetConfig
    from ...domain.errors import ConfigError

    if name is not None:
        _show(SimulatorTargetConfig(profile=name, tensor_parallel_size=tensor_parallel_size), output, json_output)
        return 0
    if output is not None:
        raise ConfigError("--output needs the name of a profile", advice="for example llama-3.1-8b/h100")
    _list(json_output)
    return 0


def _list(json_output: bool) -> None:
    import json

    from ...simulator.profiles.tables import hardware, models

    if json_output:
        tables = {
            "models": {key: row.model_dump(exclude_none=True) for key, row in models().items()},
            "hardware": {key: row.model_dump(exclude_none=True) for key, row in hardware().items()},
        }
        typer.echo(json.dumps(tables, indent=2))
        return
    _print(("model", "parameters", "KV/token", "longest", "source"), [_model(*row) for row in models().items()])
    typer.echo()
    _print(("hardware", "memory", "bandwidth", "bf16", "source"), [_hardware(*row) for row in hardware().items()])
    typer.echo("\nA profile is any MODEL/HARDWARE: spec.target.simulator: {profile: llama-3.1-8b/h100}")


def _model(key: str, model: ModelShape) -> tuple[str, ...]:
    cache = f"{model.kv_bytes_per_token() / 1024:.0f} KiB"
    return key, f"{model.parameters / 1e9:.1f} B", cache, f"{model.max_position_embeddings:,}", model.source


def _hardware(key: str, gpu: Hardware) -> tuple[str, ...]:
    bandwidth, flops = f"{gpu.memory_bandwidth / 1e12:.2f} TB/s", f"{gpu.bf16_flops / 1e12:.0f} TFLOP/s"
    return key, f"{gpu.memory / 2**30:g} GiB", bandwidth, flops, gpu.source


def _print(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1))
    for i, head in enumerate(heads):
        last = i == len(heads) - 1
        table.add_column(head, justify="right" if i > 0 and not last else "left", no_wrap=not last)
    for row in rows:
        table.add_row(*row)
    # Sources are long: the lines of a narrow terminal wrap, those of a file and a pipe do not.
    Console(highlight=False, width=160).print(table)


def _show(config: SimulatorTargetConfig, output: Path | None, json_output: bool) -> None:
    import json

    from ...config.source import write_text
    from ...simulator.profiles import load_profile
    from ...simulator.profiles.file import write_profile
    from ...simulator.profiles.profile import described

    found = described(config)
    load_profile(config)  # for the checks of the configuration
    data = found.model_dump(exclude_none=True)
    if output is not None:
        write_profile(output, found)
        typer.echo(f"wrote {output}; simulate it with spec.target.simulator: {{profile: {output}}}")
    elif json_output:
        typer.echo(json.dumps(data, indent=2))
    else:
        typer.echo(write_text(data), nl=False)
