// Rank against rank: whether two figures put codecs in the same order.
"use strict";
(() => {
  const by = (id) => document.getElementById(id), board = BOARD, { el } = Bench;
  const column = (key) => Bench.COLUMNS.find((c) => c.key === key);
  const machines = Bench.machineOptions(board);

  // A criterion is a column, with "@machine" where it was timed. Of a codec on several sets of pictures the first counts.
  const criteria = [];
  for (const c of Bench.COLUMNS.filter((one) => !one.timed && one.key !== "encflops")) criteria.push({ value: c.key, text: `${c.title} ${c.unit}`.trim(), group: "Counted and measured" });
  for (const m of machines) for (const c of Bench.COLUMNS.filter((one) => one.timed)) {
    const have = board.codecs.filter((codec) => c.value({ codec }, m.value) != null).length;
    if (have > 2) criteria.push({ value: `${c.key}@${m.value}`, text: `${c.title} ${c.unit}: ${m.group}${m.value.includes("|") ? `, ${m.text}` : ""} (${have})`, group: m.group });
  }
  // At first the paper's GPU against the machine that timed most of the same codecs.
  const timed = (value) => new Set(board.codecs.filter((codec) => column("netdecode").value({ codec }, value.slice("netdecode@".length)) != null).map((c) => c.slug));
  const gpu = criteria.find((c) => c.value.startsWith("netdecode@nvidia-a100")), onGpu = gpu ? timed(gpu.value) : new Set();
  const common = (c) => [...timed(c.value)].filter((slug) => onGpu.has(slug)).length;
  const cpu = criteria.filter((c) => c.value.startsWith("netdecode@") && !c.value.includes("nvidia") && common(c) > 1).sort((a, b) => common(b) - common(a))[0];
  const state = Bench.state({ left: (gpu && cpu ? gpu.value : "kflops"), right: (cpu ?? gpu ?? criteria[1])?.value ?? "kflops", ours: "paper" });
  const s = state.values;

  function parse(value) {
    const at = value.indexOf("@"), c = column(at < 0 ? value : value.slice(0, at));
    const machine = at < 0 ? "" : value.slice(at + 1);
    const name = machine ? `${c.title} ${c.unit}, ${board.machines.find((m) => m.slug === machine.split("|")[0])?.name}${machine.includes("|") ? `, ${machine.split("|")[1]}` : ""}` : `${c.title} ${c.unit}`.trim();
    return { column: c, machine, name, sign: c.better === "high" ? -1 : 1 };
  }

  function items(left, right) {
    const rows = board.sets.length ? Bench.rowsOf(board, board.sets[0].slug) : [];
    const found = rows.map((row) => ({ row, name: row.codec.name, a: left.column.value(row, left.machine), b: right.column.value(row, right.machine) })).filter((p) => p.a != null && p.b != null);
    const search = / effort \d+$/;
    const paper = new Set(found.filter((p) => p.row.codec.by === "paper").map((p) => p.row.codec.codec));
    // A search in the encoder leaves the decoder as it is; a model of the paper stands for ours of its name.
    return found.filter((p) => !search.test(p.name) && !(p.row.codec.by === "rdcodec" && paper.has(p.row.codec.codec)));
  }

  // 1 is best; ties share the mean of their places.
  function rank(values, sign) {
    const order = values.map((v, i) => [sign * v, i]).sort(([a], [b]) => a - b), found = [];
    for (let from = 0; from < order.length;) {
      let to = from;
      while (to < order.length && order[to][0] === order[from][0]) to++;
      for (let i = from; i < to; i++) found[order[i][1]] = (from + 1 + to) / 2;
      from = to;
    }
    return found;
  }

  function tau(a, b) {
    let agree = 0, ta = 0, tb = 0;
    for (let i = 0; i < a.length; i++) for (let j = 0; j < i; j++) {
      const x = Math.sign(a[i] - a[j]), y = Math.sign(b[i] - b[j]);
      agree += x * y; ta += x !== 0; tb += y !== 0;
    }
    return ta * tb ? agree / Math.sqrt(ta * tb) : NaN;
  }

  function draw() {
    const left = parse(s.left), right = parse(s.right), all = items(left, right);
    const ra = rank(all.map((p) => p.a), left.sign), rb = rank(all.map((p) => p.b), right.sign);
    all.forEach((p, i) => Object.assign(p, { ra: ra[i], rb: rb[i] }));
    let pairs = [], count = 0;
    const crossed = new Set();
    for (const p of all) for (const q of all) if (p.ra < q.ra && p.rb > q.rb) {
      count += 1;
      crossed.add(p).add(q);
      pairs.push([p, q]);
      if (pairs.length > 20_000) pairs = heaviest(pairs);
    }
    by("tau").textContent = all.length > 1 ? Bench.minus(tau(ra, rb).toFixed(2)) : "–";
    by("count").textContent = `Kendall’s τ over ${all.length} codecs; 1 is the same order, 0 is none. ${count ? `${count.toLocaleString("en")} ${count === 1 ? "pair changes" : "pairs change"} places.` : "No pair changes places."}${all.length > MOST_DRAWN ? ` Drawn are the ${MOST_DRAWN} that are best on the left.` : ""}`;
    const factor = (x, y) => Bench.three(Math.max(x, y) / Math.min(x, y));
    const worst = heaviest(pairs);
    by("pairs").replaceChildren(...worst.map(([p, q]) => el("li", {}, el("b", {}, p.name), ` is before `, el("b", {}, q.name), comparable(left) ? ` by ${factor(p.a, q.a)}× on the left, behind it by ${comparable(right) ? `${factor(p.b, q.b)}×` : "rank"} on the right` : ` on the left, behind it on the right`)));
    const best = [...all].sort((p, q) => p.ra - q.ra).slice(0, MOST_DRAWN);
    slopes(all.length > MOST_DRAWN ? again(best, left, right) : all, left, right, crossed);
    Bench.dataTable(by("table"), ["Codec", left.name, "Rank", right.name, "Rank"], best.map((p) => [p.name, left.column.text(p.a), String(p.ra), right.column.text(p.b), String(p.rb)]));
  }

  // Ranks among the drawn alone, so that lines fill the figure.
  function again(drawn, left, right) {
    const ra = rank(drawn.map((p) => p.a), left.sign), rb = rank(drawn.map((p) => p.b), right.sign);
    return drawn.map((p, i) => ({ ...p, ra: ra[i], rb: rb[i] }));
  }

  const heaviest = (pairs) => pairs.sort((m, n) => weight(n) - weight(m)).slice(0, 12);
  const MOST_DRAWN = 50;
  const comparable = (criterion) => criterion.column.log;
  const weight = ([p, q]) => Math.abs(p.ra - q.ra) + Math.abs(p.rb - q.rb);

  function slopes(all, left, right, crossed) {
    const holder = by("chart"), width = Math.max(300, holder.clientWidth), side = width < 520 ? 92 : 190;
    by("empty").hidden = all.length > 1;
    if (all.length < 2) { holder.replaceChildren(); return; }
    const ends = all.flatMap((p) => [{ ...p, at: "left", r: p.ra, v: left.column.text(p.a) }, { ...p, at: "right", r: p.rb, v: right.column.text(p.b) }]);
    const names = new Set([...crossed].map((p) => p.name));
    const hue = (p) => (names.has(p.name) ? Bench.KINDS[p.row.codec.by].hue : "var(--faint)");
    const text = (p) => (width < 520 ? p.name.replace(" (paper)", "") : `${p.name.replace(" (paper)", "")}  ${p.v}`);
    const plot = Bench.draw({
      width, height: 60 + 27 * all.length, marginLeft: side, marginRight: side, marginTop: 20, marginBottom: 16, style: { fontSize: "12.5px" }, ariaLabel: `Ranks by ${left.name} and by ${right.name}`,
      x: { type: "point", domain: ["left", "right"], axis: null, padding: 0 }, y: { reverse: true, axis: null, domain: [1, all.length], inset: 8 },
      marks: [
        Plot.line(ends, { x: "at", y: "r", z: "name", stroke: hue, strokeWidth: 2, strokeOpacity: 0.85 }),
        Plot.dot(ends, { x: "at", y: "r", fill: hue, r: 4 }),
        Plot.text(ends.filter((p) => p.at === "left"), { x: "at", y: "r", text, textAnchor: "end", dx: -10, fill: "currentColor" }),
        Plot.text(ends.filter((p) => p.at === "right"), { x: "at", y: "r", text, textAnchor: "start", dx: 10, fill: "currentColor" }),
      ],
    });
    holder.replaceChildren(plot);
    by("leftname").textContent = left.name;
    by("rightname").textContent = right.name;
  }

  function controls() { for (const id of ["left", "right"]) Bench.options(by(id), criteria, s[id]); }
  for (const id of ["left", "right"]) by(id).addEventListener("change", (event) => state.set({ [id]: event.target.value }));
  state.onChange(draw);
  addEventListener("hashchange", controls);
  Bench.onResize(draw);
  controls();
  draw();
})();
