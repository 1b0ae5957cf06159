"""The steps after the load, each from a run folder to files in it; they work again later on the folder alone."""

from __future__ import annotations

from pathlib import Path

from ..analyze.curves import curves
from ..analyze.run import analyze
from ..config.layers import load_resolved
from ..domain.result import RunResult
from ..report.api import ReportInput
from ..report.write import render_all
from ..store.folder import RunFolder, run_input
from .artifact import schedule_lines


def analyze_folder(path: Path) -> RunResult:
    """Compute result.json anew from the records and events of a run folder.

    Raises:
        StoreError: not a run folder, or its files cannot be read or written.
    """
    folder = RunFolder.open(path)
    result = analyze(run_input(folder, load_resolved(folder.config_text)))
    folder.write_result(result)
    return result


def report_folder(path: Path) -> Path:
    """Render every report of a run folder from its result.json, records and events; the path of report.html.

    Raises:
        StoreError: not a run folder, or it has no result yet.
    """
    folder = RunFolder.open(path)
    source = run_input(folder, load_resolved(folder.config_text))
    files = render_all(
        ReportInput(
            result=folder.result(),
            config_yaml=folder.config_text,
            command=str(folder.manifest.get("command", "")),
            events=source.events,
            curves=curves(source),
            host=folder.manifest.get("host") or {},
        )
    )
    for name, text in files.items():
        folder.write_text(name, text)
    return folder.path / "report.html"


def write_schedule(path: Path) -> None:
    """Write schedule.csv from the records and events of a run folder."""
    folder = RunFolder.open(path)
    lines = schedule_lines(load_resolved(folder.config_text), folder.events, folder.parts())
    folder.write_text("schedule.csv", "".join(lines))


def analyze_and_report(path: Path) -> RunResult:
    """Every step, as a run does them at its end."""
    result = analyze_folder(path)
    write_schedule(path)
    report_folder(path)
    return result
