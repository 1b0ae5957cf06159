"""``llm-d-benchmark regress``: is the test version slower, less reliable, or different?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .run import ProgressMode

if TYPE_CHECKING:
    from ..analyze.comparison.study import Side
    from ..config.layers import LoadedConfig
    from ..domain.comparison import RegressionResult
    from ..runner.regress import RegressOptions, RegressOutcome

FAIL_ON = ("regression", "inconclusive", "none")


def regress(
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Configuration file; its spec.regression_testing says what is compared."),
    ] = None,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN...", help="Finished runs of the baseline (run folders, or folders that hold them)."),
    ] = None,
    test: Annotated[
        list[Path] | None, typer.Option(metavar="RUN...", help="Finished runs of the test version.")
    ] = None,
    baseline_url: Annotated[str | None, typer.Option(help="Server of the baseline that is running.")] = None,
    test_url: Annotated[str | None, typer.Option(help="Server of the test version that is running.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set one key; repeatable.")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(help='The most the test version may be slower, e.g. "<5%"; over the configuration.')
    ] = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="Finished runs: run i of both sides ran one after the other.")
    ] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that the study's folder is made in.")] = Path(
        "results"
    ),
    resume: Annotated[
        Path | None, typer.Option(metavar="STUDY", help="Go on with a study that was interrupted.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show both sides, the runs and what decides, and stop.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(metavar="F", help="Write JUnit XML to this file, too.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="F", help="Write Markdown for a pull request, too.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="F", help="Write the HTML report to this file, too.")] = None,
    fail_on: Annotated[
        str, typer.Option(help="What ends with exit code 4: regression, inconclusive (comma list) or none.")
    ] = "regression",
    json_output: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
    progress: Annotated[
        ProgressMode, typer.Option(help="How the runs' progress is shown on stderr.")
    ] = ProgressMode.NONE,
) -> int:
    """Compare two versions: three verdicts for each metric, one for all.

    Examples:

      llm-d-benchmark regress -c regression.yaml --dry-run

      llm-d-benchmark regress -c regression.yaml --junit regression.xml

      llm-d-benchmark regress -c load.yaml --baseline-url http://old:8000 --test-url http://new:8000

      llm-d-benchmark regress --baseline results/v1/* --test results/v2/* --limit "<3%"
    """
    from ..domain.errors import ConfigError
    from . import arguments as parse

    reasons = _fail_on(fail_on)
    sets = list(sets or [])
    if limit is not None:
        sets.append(f"spec.regression_testing.pass_criteria.performance_regression={limit}")
    loaded = parse.load(config, sets=sets)
    outcome: RegressOutcome
    if baseline or test:
        if not (baseline and test):
            raise ConfigError(
                "finished runs are needed of both sides", advice="give --baseline RUN... and --test RUN..."
            )
        if baseline_url or test_url or resume or dry_run:
            raise ConfigError(
                "--baseline and --test are finished runs; --baseline-url, --test-url, --resume and --dry-run are about "
                "new ones"
            )
        outcome = _judge(loaded, baseline, test, paired, reasons)
    elif dry_run:
        return _show_plan(loaded, {"baseline": baseline_url, "test": test_url}, json_output)
    else:
        from ..runner.regress import RegressOptions

        options = RegressOptions(
            output=output,
            command=parse.command_line(loaded),
            urls={"baseline": baseline_url, "test": test_url},
            resume=resume,
            fail_on=reasons,
            say=lambda line: typer.echo(line, err=True),
        )
        outcome = _run(loaded, options, progress)
    _write(outcome.result, junit, markdown, html, parse.command_line(loaded))
    _print(outcome, json_output)
    return int(outcome.exit_code)


def _fail_on(text: str) -> frozenset[str]:
    from ..domain.errors import ConfigError

    names = {n.strip() for n in text.split(",") if n.strip()}
    if unknown := names - set(FAIL_ON):
        raise ConfigError(f"--fail-on: unknown '{', '.join(sorted(unknown))}'; allowed: {', '.join(FAIL_ON)}")
    if "none" in names and len(names) > 1:
        raise ConfigError("--fail-on: 'none' goes alone")
    return frozenset(names - {"none"})


def _show_plan(loaded: LoadedConfig, urls: Mapping[Side, str | None], json_output: bool) -> int:
    import json

    from ..runner.regress_plan import plan_regression
    from .show import print_regression_plan

    planned = plan_regression(loaded, urls)
    if json_output:
        typer.echo(json.dumps(planned.to_dict(), indent=2))
    else:
        print_regression_plan(planned)
    return 0


def _judge(
    loaded: LoadedConfig, baseline: Sequence[Path], test: Sequence[Path], paired: bool, fail_on: frozenset[str]
) -> RegressOutcome:
    from ..domain.errors import ConfigError
    from ..runner.regress import RegressOutcome, exit_code
    from ..runner.study import judge_runs
    from ..store.folder import runs_at

    sides = [runs_at(paths) for paths in (baseline, test)]
    if paired and len(sides[0]) != len(sides[1]):
        raise ConfigError(
            f"--paired: {len(sides[0])} runs of the baseline and {len(sides[1])} of the test are no pairs"
        )
    result = judge_runs(loaded.config, *sides, paired=paired)
    return RegressOutcome(result, None, exit_code(result, fail_on))


def _run(loaded: LoadedConfig, options: RegressOptions, progress: ProgressMode) -> RegressOutcome:
    from ..report.progress import make_progress
    from ..runner.regress import regress as run_regression
    from .interrupt import until_signal

    with loaded.locating(), make_progress(progress.value) as shown:
        return until_signal(lambda stop: run_regression(loaded, options, observers=[shown], stop=stop))


def _write(
    result: RegressionResult, junit: Path | None, markdown: Path | None, html: Path | None, command: str
) -> None:
    from ..report.comparison import render_regression
    from ..store.files import write_text_anywhere

    wanted: dict[str, Path | None] = {"junit.xml": junit, "report.md": markdown, "report.html": html}
    if any(wanted.values()):
        texts: dict[str, Any] = render_regression(result, command)
        for name, path in wanted.items():
            if path is not None:
                write_text_anywhere(path, texts[name])


def _print(outcome: RegressOutcome, json_output: bool) -> None:
    from ..report.regression import render_lines
    from ..store.comparison_json import to_json

    if json_output:
        typer.echo(to_json(outcome.result), nl=False)
        return
    typer.echo(render_lines(outcome.result))
    if outcome.folder is not None:
        typer.echo(f"report: {outcome.folder / 'report.html'}")
