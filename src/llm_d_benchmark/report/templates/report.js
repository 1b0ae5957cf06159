"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // Colours in the figures are names like "@c1"; the style sheet says what they are in light and dark.
  const themed = (value, styles) => {
    if (typeof value === "string") return value.startsWith("@") ? styles.getPropertyValue("--" + value.slice(1)).trim() : value;
    if (Array.isArray(value)) return value.map((item) => themed(item, styles));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, styles)]));
    return value;
  };

  // With a view box a chart scales with its page in print, where scripts no longer run.
  const scalable = (node) => {
    for (const svg of node.querySelectorAll("svg.main-svg"))
      svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
  };

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  const draw = async () => {
    const figures = JSON.parse(byId("figures").textContent);
    const script = document.createElement("script");
    script.textContent = await unpack(byId("plotly").textContent);
    document.head.append(script);
    const config = { responsive: true, displaylogo: false, displayModeBar: false, showSendToCloud: false, plotlyServerURL: "" };
    const paint = () => Promise.all(figures.map(async (figure) => {
      const { data, layout } = themed(figure, getComputedStyle(document.documentElement));
      const node = byId(figure.name);
      await Plotly.react(node, data, layout, config);
      scalable(node);
      if (!node.dataset.drawn) node.on("plotly_afterplot", () => scalable(node));
      node.dataset.drawn = "yes";
    }));
    await paint();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    // A page on paper is light, also where the screen is dark.
    matchMedia("print").addEventListener("change", paint);
    document.documentElement.dataset.charts = "drawn";
  };

  if (byId("figures")) {
    draw().catch((error) => {
      document.documentElement.dataset.charts = "failed";
      byId("chart-trouble").hidden = false;
      console.error(error);
    });
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const node = byId(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(node.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(node);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
})();
