// The frontier: any two columns against each other, on a machine and a set of pictures of the reader's choice.
"use strict";
(() => {
  const by = (id) => document.getElementById(id), board = BOARD;
  const machines = Bench.machineOptions(board);
  const state = Bench.state({ set: board.sets[0]?.slug ?? "", machine: machines[0]?.value ?? "", x: "kflops", y: "rate", kinds: "rdcodec,paper,other,published", from: "60" });
  const s = state.values;
  const column = (key) => Bench.COLUMNS.find((c) => c.key === key);

  function draw() {
    const x = column(s.x), y = column(s.y), kinds = new Set(s.kinds.split(","));
    const points = Bench.rowsOf(board, s.set).filter((row) => kinds.has(row.codec.by))
      .map((row) => ({ row, x: x.value(row, s.machine), y: y.value(row, s.machine) }))
      .filter((p) => p.x != null && p.y != null && (!x.log || p.x > 0) && (!y.log || p.y > 0));
    const chart = by("chart");
    by("empty").hidden = points.length > 0;
    chart.hidden = !points.length;
    Bench.kindKey(by("key"), points);
    if (!points.length) { by("table").replaceChildren(); return; }
    const label = `${y.title} against ${x.title}: ${points.length} codecs`;
    const front = new Set(Bench.scatter(chart, points, { x, y, base: "", height: Math.min(560, Math.max(380, innerHeight * 0.6)), label, all: points.length < 26 }));
    const rows = points.sort((a, b) => (x.better === "high" ? b.x - a.x : a.x - b.x)).map((p) => [p.row.codec.name, x.text(p.x), y.text(p.y), front.has(p) ? "yes" : ""]);
    Bench.dataTable(by("table"), ["Codec", `${x.title} ${x.unit}`, `${y.title} ${y.unit}`, "On the frontier"], rows);
    by("timed").hidden = !(x.timed || y.timed);
  }

  function controls() {
    Bench.options(by("set"), board.sets.map((one) => ({ value: one.slug, text: one.name })), s.set);
    Bench.options(by("machine"), machines, s.machine);
    const axes = Bench.COLUMNS.map((c) => ({ value: c.key, text: `${c.title}${c.unit ? `, ${c.unit}` : ""}` }));
    Bench.options(by("x"), axes, s.x);
    Bench.options(by("y"), axes, s.y);
    const on = new Set(s.kinds.split(","));
    by("kinds").replaceChildren(...Object.entries(Bench.KINDS).map(([key, kind]) => Bench.el("button", { type: "button", class: "chip", "data-kind": key, "aria-pressed": String(on.has(key)), style: `--key:${kind.hue}`, onclick: () => {
      if (!on.delete(key)) on.add(key);
      state.set({ kinds: [...on].join(",") });
      controls();
      document.querySelector(`[data-kind="${key}"]`).focus();
    } }, Bench.el("i"), kind.name)));
  }

  for (const id of ["set", "machine", "x", "y"]) by(id).addEventListener("change", (event) => state.set({ [id]: event.target.value }));
  by("swap").addEventListener("click", () => { state.set({ x: s.y, y: s.x }); controls(); });
  state.onChange(draw);
  addEventListener("hashchange", controls);
  Bench.onResize(draw);
  controls();
  draw();
})();
