"""report.html in a real browser: charts drawn, no errors, no requests, no sideways scrolling on a phone, print."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_d_benchmark.capacity.plan import plan as capacity_plan
from llm_d_benchmark.config.target import TargetConfig
from llm_d_benchmark.domain.result import RunResult
from llm_d_benchmark.explore.conclude import Facts, conclude
from llm_d_benchmark.report.capacity_page import render_html as render_plan
from llm_d_benchmark.report.explore import render_study
from llm_d_benchmark.report.html import render_html
from tests.capacity.test_plan import candidate, question
from tests.explore.synthetic import Bench, explored, plan, server

from . import sample
from .agreeing import side_by_side
from .curves import source

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)

# A page that shows the report in a frame as wide as the device (a headless window has a least width of its own).
FRAME = """<!DOCTYPE html><body><iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe>
<pre id="seen">nothing</pre><script>
const frame = document.querySelector("iframe");
const look = () => {{
  const page = frame.contentDocument;
  if (!page?.documentElement?.dataset.charts) return setTimeout(look, 50);
  const root = page.documentElement;
  const plots = [...page.querySelectorAll(".plot")];
  const box = (node) => node.getBoundingClientRect();
  const texts = (plot, kind) => [...plot.querySelectorAll(kind + " text")].map(box).filter((text) => text.width);
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  document.getElementById("seen").textContent = JSON.stringify({{
    charts: root.dataset.charts,
    overflow: root.scrollWidth - root.clientWidth,
    wide: [...page.querySelectorAll("body *")].filter((node) => !node.closest(".scroll, pre, .plot")
      && node.getBoundingClientRect().right > root.clientWidth + 1).map((node) => node.tagName + "." + node.className),
    drawn: Object.fromEntries(plots.map((plot) => [plot.id,
      plot.querySelectorAll(".scatterlayer .trace, .barlayer .trace").length])),
    clipped: plots.filter((plot) => plot.querySelector("svg.main-svg").getBoundingClientRect().width
      > plot.getBoundingClientRect().width + 1).map((plot) => plot.id),
    cut: plots.filter((plot) => texts(plot, "").some((text) => text.right > box(plot).right + 1
      || text.left < box(plot).left - 1 || text.bottom > box(plot).bottom + 1)).map((plot) => plot.id),
    covered: plots.filter((plot) => texts(plot, ".legend").some((legend) =>
      texts(plot, ".xaxislayer-above").some((tick) => meet(legend, tick)))).map((plot) => plot.id),
    ground: page.defaultView.getComputedStyle(page.body).backgroundColor,
    stroke: page.querySelector(".js-line") && page.defaultView.getComputedStyle(page.querySelector(".js-line")).stroke,
    closed: page.querySelectorAll("details:not([open])").length,
    requests: page.defaultView.performance.getEntriesByType("resource").map((entry) => entry.name),
  }});
}};
look();
</script></body>"""


class Server:
    """Serves a directory and remembers what was asked for."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                asked.append(self.path)

        handler = functools.partial(Handler, directory=str(directory))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()


def chromium(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


def look(tmp_path: Path, served: Server, result: RunResult, *, width: int = 1280, dark: bool = False) -> dict[str, Any]:
    return look_at(tmp_path, served, render_html(source(result)), width=width, dark=dark)


def look_at(tmp_path: Path, served: Server, page: str, *, width: int, dark: bool = False) -> dict[str, Any]:
    (tmp_path / "report.html").write_text(page)
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    profile = tmp_path.parent / f"{tmp_path.name}-profile"
    done = chromium(profile, "--dump-dom", "--window-size=1400,1000", *theme, f"{served.url}/frame.html")
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line and "favicon" not in line]
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    assert found is not None
    seen = json.loads(html.unescape(found[1]))
    assert isinstance(seen, dict)
    return seen


@pytest.mark.parametrize(("stages", "width"), [(1, 390), (5, 390), (5, 1280)])
def test_draws_everything_loads_nothing_and_never_scrolls_sideways(
    tmp_path: Path, served: Server, stages: int, width: int
) -> None:
    seen = look(tmp_path, served, sample.result(stages), width=width)
    assert seen["charts"] == "drawn"
    expected = {"distribution-ttft", "distribution-itl", "distribution-tpot", "distribution-e2e", "timeline"}
    expected |= {"throughput-latency", "load-throughput"} if stages > 1 else set()
    assert set(seen["drawn"]) == expected
    assert all(traces > 0 for traces in seen["drawn"].values())
    assert seen["overflow"] == 0
    assert seen["wide"] == []
    assert seen["clipped"] == []
    assert seen["requests"] == []
    assert set(served.asked) - {"/favicon.ico"} == {"/frame.html", "/report.html"}
    assert seen["ground"] == "rgb(251, 251, 250)"
    assert seen["stroke"] == ("rgb(0, 114, 178)" if stages > 1 else "rgb(213, 94, 0)")


@pytest.mark.parametrize("width", [390, 1280])
def test_generators_side_by_side_fit(tmp_path: Path, served: Server, width: int) -> None:
    seen = look(tmp_path, served, side_by_side(), width=width)
    assert (seen["charts"], seen["overflow"], seen["wide"], seen["clipped"]) == ("drawn", 0, [], [])
    assert seen["drawn"]["agreement-0"] == 3, "one trace for each generator"


def a_study() -> str:
    asked = plan({"batch_size": [1, 4, 16, 64], "concurrency": [16, 32]}, constraints={"max_latency": "5s"})
    present = {"batch_size": 4, "concurrency": 16}
    bench = Bench(lambda s: server({**s, "max_tokens": 128}), noise=0.02, present=present)
    ledger = asyncio.run(explored(asked, bench)).ledger
    target = TargetConfig.model_validate({"simulator": {}})
    return render_study(conclude(asked, ledger, Facts("study", "study", "done", 0, 60_000_000_000, target)))


def a_capacity_plan() -> str:
    day = {"duration": "24h", "hourly_profile": [0.1] * 12 + [1.0] * 12}
    scenarios = [{"name": "normal day of the week", "multiplier": 1.0, **day}, {"name": "peak", "multiplier": 2.5},
                 {"name": "black_friday_with_a_long_name", "multiplier": 8.0}]  # fmt: skip
    options = [candidate(), candidate("llama-3.1-8b/a100"), candidate("llama-3.1-70b/h100", tp=8)]
    return render_plan(capacity_plan(question(scenarios=scenarios), options))


@pytest.mark.parametrize("make", [a_study, a_capacity_plan])
def test_what_answers_a_question_fits_a_phone(tmp_path: Path, served: Server, make: Callable[[], str]) -> None:
    seen = look_at(tmp_path, served, make(), width=390)
    assert len(seen["drawn"]) >= 5
    assert (seen["charts"], seen["overflow"], seen["wide"], seen["clipped"]) == ("drawn", 0, [], [])
    assert (seen["cut"], seen["covered"]) == ([], []), "texts over a chart's edge, or a legend on its axis"


def test_dark_turns_the_page_and_its_charts(tmp_path: Path, served: Server) -> None:
    seen = look(tmp_path, served, sample.result(2), dark=True)
    assert (seen["ground"], seen["stroke"]) == ("rgb(20, 23, 26)", "rgb(77, 166, 224)")


def test_hostile_names_stay_text(tmp_path: Path, served: Server) -> None:
    evil = "</script><script>document.documentElement.dataset.charts='stolen'</script>"
    base = sample.result(3)
    stages = [dataclasses.replace(s, name=evil, label="<b>x</b>") for s in base.stages]
    seen = look(tmp_path, served, dataclasses.replace(base, name=evil, stages=stages))
    assert seen["charts"] == "drawn"


def test_prints_charts_and_the_whole_configuration(tmp_path: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext on this machine")
    page, pdf = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(render_html(source(sample.result(5))))
    chromium(tmp_path / "profile", f"--print-to-pdf={pdf}", "--no-pdf-header-footer", page.as_uri())
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    assert "requests/s offered" in text  # an axis title: the chart is there, as text and lines
    assert "seconds since the load began" in text
    assert "input_length: {distribution: normal" in text  # from the closed details
    assert "Schedule delay" in text
