// Rate-distortion curves of any selection.
"use strict";
(() => {
  const by = (id) => document.getElementById(id), board = BOARD, { el } = Bench;
  const HUES = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)", "var(--c7)", "var(--c8)"], DASHES = ["", "6,3", "2,3"];
  const state = Bench.state({ set: board.sets[0]?.slug ?? "", metric: board.metrics[0].key, pick: "", from: "0", to: "1.5", find: "" });
  const s = state.values;
  const points = (row) => CURVES[row.set]?.[row.codec.slug] ?? [];

  function usable() { return Bench.rowsOf(board, s.set).filter((row) => points(row).some((p) => p[s.metric] != null)); }

  // Where nobody chose: what was measured here, newest first, and the reference.
  function chosen(rows) {
    if (s.pick) { const on = new Set(s.pick.split(",")); return rows.filter((row) => on.has(row.codec.slug)); }
    const reference = board.sets.find((one) => one.slug === s.set)?.reference;
    const first = rows.filter((row) => row.codec.by === "rdcodec" && points(row).length > 1 && !row.codec.name.includes("effort")).slice(0, 4);
    const others = rows.filter((row) => row.codec.by === "other").slice(0, 3);
    return [...new Set([...first, ...rows.filter((row) => row.codec.name === reference), ...others])].slice(0, 8);
  }

  const look = (index) => ({ hue: HUES[index % HUES.length], dash: DASHES[Math.floor(index / HUES.length) % DASHES.length] });

  // The points of a set of pictures are a file of their own, read when they are asked for.
  function draw() {
    if (CURVES[s.set] || !board.sets.some((one) => one.slug === s.set)) show();
    else Bench.load(`data/curves/${s.set}.js`).then(draw);
  }

  function show() {
    const rows = usable(), shown = chosen(rows), low = +s.from || 0, high = +s.to || Infinity;
    const metric = board.metrics.find((m) => m.key === s.metric);
    const lines = shown.map((row, i) => ({ row, ...look(i), points: points(row).filter((p) => p[s.metric] != null && p.bpp >= low && p.bpp <= high) })).filter((line) => line.points.length);
    const holder = by("chart"), width = Math.max(300, holder.clientWidth), dots = lines.flatMap((line) => line.points.map((p) => ({ ...p, line })));
    by("empty").hidden = dots.length > 0;
    if (dots.length) {
      const plot = Bench.draw({
        width, height: Math.min(560, Math.max(360, width * 0.62)), marginLeft: 50, marginBottom: 44, marginTop: 24, marginRight: 16, style: { fontSize: "12px" }, ariaLabel: `${metric.title} against rate, ${lines.length} curves`,
        x: { label: "Rate, bits per pixel", labelAnchor: "center", labelArrow: "none", grid: true, nice: true, ticks: width < 520 ? 4 : 8 }, y: { label: `↑ ${metric.title}${metric.unit}`, labelArrow: "none", grid: true, nice: true, ticks: 7 },
        marks: [
          ...lines.map((line) => Plot.line(line.points, { x: "bpp", y: s.metric, stroke: line.hue, strokeWidth: 2, strokeDasharray: line.dash || null, curve: "monotone-x" })),
          Plot.dot(dots, { x: "bpp", y: s.metric, fill: (p) => p.line.hue, r: dots.length > 120 ? 2.2 : 3.6, stroke: "var(--paper)", strokeWidth: 0.8, href: (p) => `codecs/${p.line.row.codec.slug}.html`, ariaLabel: (p) => `${p.line.row.codec.name}: ${p.bpp} bpp, ${p[s.metric]} ${metric.title}` }),
        ],
      });
      holder.replaceChildren(plot);
      Bench.interactive(plot, "a", dots.map((p) => Bench.tipText(p.line.row.codec.name, [["rate", `${p.bpp.toFixed(3)} bpp`], [metric.title, `${p[s.metric].toFixed(2)}${metric.unit}`], ...(p.setting == null ? [] : [["setting", String(p.setting)]])])));
    } else holder.replaceChildren();
    by("key").replaceChildren(...lines.map((line) => el("li", {}, el("i", { class: "line", style: `--key:${line.hue}` }), line.row.codec.name)));
    Bench.dataTable(by("table"), ["Codec", "Setting", "bpp", `${metric.title}${metric.unit}`], dots.map((p) => [p.line.row.codec.name, p.setting == null ? "" : String(p.setting), p.bpp.toFixed(4), p[s.metric].toFixed(3)]));
    picker(rows, shown);
  }

  function picker(rows, shown) {
    const on = new Map(shown.map((row, i) => [row.codec.slug, look(i).hue])), find = s.find.toLowerCase();
    const listed = rows.filter((row) => on.has(row.codec.slug) || row.codec.name.toLowerCase().includes(find)).sort((a, b) => on.has(b.codec.slug) - on.has(a.codec.slug)).slice(0, 200);
    const focused = document.activeElement?.value;
    by("picker").replaceChildren(...listed.map((row) => el("label", {},
      el("input", { type: "checkbox", value: row.codec.slug, checked: on.has(row.codec.slug), onchange: toggle }), el("i", { style: on.has(row.codec.slug) ? `--key:${on.get(row.codec.slug)}` : null }), row.codec.name)));
    if (focused) [...by("picker").querySelectorAll("input")].find((input) => input.value === focused)?.focus();
  }

  function toggle(event) {
    const on = new Set(chosen(usable()).map((row) => row.codec.slug));
    if (event.target.checked) on.add(event.target.value); else on.delete(event.target.value);
    state.set({ pick: [...on].join(",") || "none" });
  }

  function controls() {
    Bench.options(by("set"), board.sets.map((one) => ({ value: one.slug, text: one.name })), s.set);
    Bench.options(by("metric"), board.metrics.map((m) => ({ value: m.key, text: m.title })), s.metric);
    for (const id of ["from", "to", "find"]) by(id).value = s[id];
  }

  by("set").addEventListener("change", (event) => state.set({ set: event.target.value, pick: "" }));
  by("metric").addEventListener("change", (event) => state.set({ metric: event.target.value }));
  for (const id of ["from", "to", "find"]) by(id).addEventListener("input", (event) => state.set({ [id]: event.target.value }));
  state.onChange(draw);
  addEventListener("hashchange", controls);
  Bench.onResize(draw);
  controls();
  draw();
})();
