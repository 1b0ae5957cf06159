"""``llm-d-benchmark simulator calibrate``: a profile from runs of a real server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...analyze.api import RunInput
    from ...simulator.calibrate import Calibration


DEFAULT = Path("profile.yaml")


def calibrate(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of one replica at several levels of load.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Profile file to write. Default: profile.yaml, if there is none yet."),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            "--hold-out",
            metavar="LEVEL",
            help="Predict this level and never fit it, e.g. c=6; repeatable. Default: each one in turn.",
        ),
    ] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Sequences in a batch of the server.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens in a step of the server.")] = None,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Longest sequence of the server.")] = None,
    kv_cache_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens that its KV cache holds.")] = None,
    tensor_parallel_size: Annotated[int | None, typer.Option(min=1, help="GPUs of the replica.")] = None,
    hardware: Annotated[str | None, typer.Option(help="Name of its hardware, for the record.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Fit the simulator's cost model to runs of a real server, and say how well it predicts levels it has not seen.

    The runs must be streamed, and hold at least four levels of load between them. What the server allows
    (--max-num-seqs and so on) is taken from the runs where they tell it.

    Examples:

      llm-d-benchmark simulator calibrate results/a results/b -o profile.yaml

      llm-d-benchmark simulator calibrate results/a --hold-out c=3 --hold-out c=6 --max-num-seqs 256
    """
    import json

    from ...domain.errors import ConfigError
    from ...simulator.calibrate import Given, calibrate
    from ...simulator.profiles.file import write_profile

    file = output or DEFAULT
    if output is None and file.exists():
        raise ConfigError(f"{file} exists already", advice=f"-o NAME writes another file, -o {file} this one anew")
    given = Given(max_num_seqs, max_num_batched_tokens, max_model_len, kv_cache_tokens, tensor_parallel_size, hardware)
    found = calibrate([_read(run) for run in runs], given, hold_out or ())
    write_profile(file, found.profile())
    if json_output:
        typer.echo(json.dumps(found.profile().model_dump(exclude_none=True), indent=2))
    else:
        _show(found, file)
    return 0


def _read(path: Path) -> RunInput:
    from ...config.layers import load_resolved
    from ...store.folder import RunFolder, run_input

    folder = RunFolder.open(path)
    return run_input(folder, load_resolved(folder.config_text))


def _show(found: Calibration, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1))
    table.add_column("level")
    for head in ("tokens/s", "predicted", "error", "TTFT s", "predicted", "error", "TPOT ms", "predicted", "error"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for level in found.levels:
        cells = []
        for quantity, scale in (("throughput", 1.0), ("ttft", 1.0), ("tpot", 1e3)):
            cells += [f"{getattr(side, quantity) * scale:.4g}" for side in (level.measured, level.predicted)]
            cells.append(f"{level.error(quantity):+.1%}")
        use = "held out, outside" if level.outside else "held out" if level.held_out else "fitted"
        table.add_row(level.label, *cells, use)
    console = Console(highlight=False, width=120)
    console.print(table)
    worst = ", ".join(f"{q} {found.worst(q):.1%}" for q in ("throughput", "ttft", "tpot"))
    console.print(f"largest error of a level held out: {worst}")
    if any(level.outside for level in found.levels):
        console.print("outside: fewer or more sequences than in every level it was predicted from; not counted there")
    names = (f"{name.replace('_', ' ')} {low:,} to {high:,}" for name, (low, high) in found.ranges.items())
    console.print(f"fitted to: {', '.join(names)}; beyond that the profile extrapolates")
    for assumed in found.served.assumed:
        console.print(f"assumed: {assumed}")
    console.print(f"wrote {output}; to simulate this server:")
    console.print(_block(found, output), markup=False)


def _block(found: Calibration, output: Path) -> str:
    served = found.served
    keys = {"profile": str(output), "max_num_seqs": served.max_num_seqs}
    keys |= {"max_num_batched_tokens": served.max_num_batched_tokens}
    if served.tensor_parallel_size != 1:
        keys["tensor_parallel_size"] = served.tensor_parallel_size
    return f"  spec.target.simulator: {{{', '.join(f'{k}: {v}' for k, v in keys.items())}}}"
