// What every page shares: theme, state in the address, figures as text, the table of columns, tooltips, charts' parts.
"use strict";
const Bench = (() => {
  const root = document.documentElement;

  // Theme: the system's, unless the reader chose one. Storage may be closed to local files.
  const stored = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => { root.dataset.theme = stored() || (systemDark.matches ? "dark" : "light"); };
  paint();
  systemDark.addEventListener("change", paint);
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const next = root.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("theme", next); } catch { /* for this page alone */ }
      root.dataset.theme = next;
    });
  });

  // State: what differs from the defaults stands behind # in the address.
  function state(defaults) {
    const read = () => {
      const given = new URLSearchParams(location.hash.slice(1));
      return Object.fromEntries(Object.entries(defaults).map(([key, value]) => [key, given.get(key) ?? value]));
    };
    const current = read();
    const listeners = [];
    return {
      values: current,
      set(changes) {
        Object.assign(current, changes);
        const kept = Object.entries(current).filter(([key, value]) => value !== defaults[key]);
        const hash = new URLSearchParams(kept).toString();
        history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
        listeners.forEach((run) => run());
      },
      onChange(run) {
        listeners.push(run);
        addEventListener("hashchange", () => { Object.assign(current, read()); run(); });
      },
    };
  }

  // A data file, from file:// too.
  function load(address) {
    return new Promise((done, failed) => document.head.append(el("script", { src: address, onload: done, onerror: failed })));
  }

  // Elements
  function el(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (value === true) made.setAttribute(key, "");
      else if (value !== false && value != null) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child != null));
    return made;
  }

  function options(select, entries, chosen) {
    const groups = new Map();
    select.replaceChildren();
    for (const { value, text, group } of entries) {
      let parent = select;
      if (group) {
        if (!groups.has(group)) groups.set(group, select.appendChild(el("optgroup", { label: group })));
        parent = groups.get(group);
      }
      parent.append(el("option", { value, selected: value === chosen }, text));
    }
    select.value = chosen;
  }

  // Figures as text
  const minus = (text) => text.replace("-", "−");
  const fixed = (digits) => (value) => minus(value.toFixed(digits));
  const percent = (value) => `${value > 0 ? "+" : ""}${minus(value.toFixed(1))} %`;
  const three = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3)));
  const millions = (value) => `${three(value / 1e6)} M`;

  const KINDS = {
    rdcodec: { name: "rdcodec", hue: "var(--rdcodec)", symbol: "circle" },
    paper: { name: "The paper’s Table 1", hue: "var(--paper-model)", symbol: "diamond" },
    other: { name: "Measured, others", hue: "var(--other)", symbol: "square" },
    published: { name: "Published figures", hue: "var(--published)", symbol: "triangle" },
  };

  // Speeds. A machine is chosen as "slug" (its fastest way) or "slug|way". Times of `rdc eval` and of
  // CLIC's larger pictures count where nothing else does: the others are of one size.
  const standsBehind = (speed) => (speed.evaluated ? 2 : 0) + (speed.clic ? 1 : 0);
  function speedOf(codec, choice, what) {
    const [machine, way] = choice.split("|");
    let best = null;
    for (const speed of codec.speeds) {
      if ((machine && speed.machine !== machine) || (way && speed.way !== way) || speed[what] == null) continue;
      const behind = best ? standsBehind(speed) - standsBehind(best) : -1;
      if (behind < 0 || (behind === 0 && speed[what] > best[what])) best = speed;
    }
    return best;
  }

  const number = (name) => (row) => row[name] ?? row.codec[name];
  const speed = (what) => (row, machine) => speedOf(row.codec, machine, what)?.[what];
  // key, heading, unit, value(row, machine), text, better: which end is first, scale of axes
  const COLUMNS = [
    { key: "rate", title: "Rate", unit: "at 0.46 bpp", help: "Rate against the reference at the PSNR reached with 0.46 bpp, or at the codec’s only rate. Negative is smaller.", value: number("rate"), text: percent, better: "low", meter: true },
    { key: "bd", title: "BD-rate", unit: "PSNR", help: "Mean rate against the reference at equal PSNR. Negative is smaller. Below it, where both were measured on the same pictures: 95 % interval of the mean over pictures.", value: number("bd"), text: percent, better: "low", meter: true },
    { key: "bdms", title: "BD-rate", unit: "MS-SSIM", help: "Mean rate against the reference at equal MS-SSIM. Negative is smaller.", value: number("bdms"), text: percent, better: "low", meter: true },
    { key: "bdeye", title: "BD-rate", unit: "SSIMULACRA 2", help: "Mean rate at equal SSIMULACRA 2, a model of the eye, against the codec named above the table. Negative is smaller.", value: number("bdeye"), text: percent, better: "low", meter: true },
    { key: "kflops", title: "Decoder", unit: "kFLOPs/px", help: "Operations of the decoder per pixel; a multiply-add counts two.", value: number("kflops"), text: three, better: "low", log: true },
    { key: "encflops", title: "Encoder", unit: "kFLOPs/px", help: "Operations of the encoder per pixel, where they were counted.", value: number("encflops"), text: three, better: "low", log: true },
    { key: "decode", title: "Decode", unit: "MP/s, files", help: "True megapixels per second, from file to pixels, on the chosen machine.", value: speed("decode"), text: three, better: "high", log: true, timed: true },
    { key: "encode", title: "Encode", unit: "MP/s, files", help: "True megapixels per second, from pixels to file, on the chosen machine.", value: speed("encode"), text: three, better: "high", log: true, timed: true },
    { key: "netdecode", title: "Decode", unit: "MP/s, networks", help: "Networks alone, without entropy coding, as the paper gives it.", value: speed("netdecode"), text: three, better: "high", log: true, timed: true },
    { key: "netencode", title: "Encode", unit: "MP/s, networks", help: "Networks alone, without entropy coding.", value: speed("netencode"), text: three, better: "high", log: true, timed: true },
    { key: "memory", title: "Memory", unit: "MiB", help: "Most memory of encoder and decoder together, on the chosen machine.", value: speed("memory"), text: three, better: "low", log: true, timed: true },
    { key: "params", title: "Parameters", unit: "", help: "Trained numbers, of encoder and decoder.", value: number("params"), text: millions, better: "low", log: true },
    { key: "training", title: "Training", unit: "EFLOP", help: "Computation of the training, with that of its start.", value: number("training"), text: three, better: "low", log: true },
  ];
  const WORDS = [
    { key: "exact", title: "Exact", unit: "any machine", help: "Whether every machine decodes the same symbols from a file.", value: (row) => row.codec.exact, word: true },
    { key: "evidence", title: "Evidence", unit: "", help: "file: bytes of real files, measured with this program; published: somebody’s figures; estimate: a model’s own rate.", value: (row) => row.evidence, word: true },
    { key: "licence", title: "Licence", unit: "code or figures", help: "Of the code, or of published figures.", value: (row) => row.codec.licence, word: true },
  ];

  const rowsOf = (board, set) => board.rows.filter((row) => row.set === set).map((row) => ({ ...row, codec: board.codecs[row.codec] }));

  function machineOptions(board, blank) {
    const entries = blank ? [{ value: "", text: blank }] : [];
    for (const machine of board.machines) {
      const ways = [...new Set(board.codecs.flatMap((c) => c.speeds.filter((s) => s.machine === machine.slug).map((s) => s.way)))];
      if (!ways.length) continue;
      entries.push({ value: machine.slug, text: `${machine.name}${ways.length > 1 ? ": fastest way" : ""}`, group: machine.name });
      if (ways.length > 1) for (const way of ways.sort()) entries.push({ value: `${machine.slug}|${way}`, text: way, group: machine.name });
    }
    return entries;
  }

  // One tooltip for all charts: by pointer and by keyboard focus.
  let tip = null;
  function showTip(target, content) {
    hideTip();
    tip = el("div", { class: "tip", role: "status" });
    tip.innerHTML = content;
    document.body.append(tip);
    const at = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.x + at.width / 2 + 12), innerWidth - own.width - 8);
    const above = at.y - own.height - 10;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 8 ? above : at.bottom + 10}px`;
  }
  function hideTip() { tip?.remove(); tip = null; }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  addEventListener("scroll", hideTip, { passive: true });

  const escape = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const tipText = (title, pairs) => `<b>${escape(title)}</b>` + pairs.map(([k, v]) => `<span>${escape(k)}<em>${escape(v)}</em></span>`).join("");

  function interactive(svg, selector, tips) {
    svg.querySelectorAll(selector).forEach((node, index) => {
      const show = () => showTip(node, tips[index]);
      node.addEventListener("pointerenter", show);
      node.addEventListener("focus", show);
      node.addEventListener("pointerleave", hideTip);
      node.addEventListener("blur", hideTip);
    });
  }

  // Labels at points, none over another: tried in the order given, at six places each.
  function labels(svg, points, plot) {
    const x = plot.scale("x"), y = plot.scale("y");
    const taken = points.map((p) => { const px = x.apply(p.x), py = y.apply(p.y); return [px - 5, py - 5, px + 5, py + 5]; });
    const box = svg.viewBox.baseVal;
    const clash = (b) => b[0] < 2 || b[2] > box.width - 2 || b[1] < 2 || taken.some((t) => b[0] < t[2] && b[2] > t[0] && b[1] < t[3] && b[3] > t[1]);
    for (const p of points.filter((point) => point.label)) {
      const px = x.apply(p.x), py = y.apply(p.y), width = p.label.length * 6.3 + 2;
      const places = [[7, -7, "start"], [9, 4, "start"], [0, -10, "middle"], [0, 19, "middle"], [-9, 4, "end"], [-8, -8, "end"], [8, 15, "start"], [-8, 15, "end"]];
      for (const [dx, dy, anchor] of places) {
        const left = px + dx - (anchor === "end" ? width : anchor === "middle" ? width / 2 : 0);
        const b = [left, py + dy - 11, left + width, py + dy + 3];
        if (clash(b)) continue;
        const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
        for (const [key, value] of Object.entries({ x: px + dx, y: py + dy, "text-anchor": anchor, class: "point-label", "aria-hidden": "true" })) text.setAttribute(key, value);
        text.textContent = p.label;
        svg.append(text);
        taken.push(b);
        break;
      }
    }
  }

  // Points nobody beats, for two columns.
  function frontier(points, xBetter, yBetter) {
    const sx = xBetter === "high" ? -1 : 1, sy = yBetter === "high" ? -1 : 1;
    let best = Infinity;
    return [...points].sort((a, b) => sx * (a.x - b.x) || sy * (a.y - b.y)).filter((p) => {
      if (sy * p.y >= best) return false;
      best = sy * p.y;
      return true;
    });
  }

  // Ranks as text, "3=" for ties. A row is behind another only for certain: where intervals are known they must not
  // overlap, and figures must differ as they are shown.
  function ranks(rows, column, machine) {
    const sign = column.better === "high" ? -1 : 1;
    const ends = rows.map((row) => {
      const value = column.value(row, machine), low = row[`${column.key}_low`], high = row[`${column.key}_high`];
      if (value == null || value === "") return null;
      const shown = parseFloat(column.text(value).replace("−", "-").replaceAll(",", ""));
      return low == null ? [sign * shown, sign * shown] : [low, high];
    });
    const worst = ends.filter(Boolean).map(([, high]) => high).sort((a, b) => a - b);
    const before = (low) => { let a = 0, b = worst.length; while (a < b) { const m = (a + b) >> 1; if (worst[m] < low) a = m + 1; else b = m; } return a; };
    const places = ends.map((end) => end && 1 + before(end[0]));
    const counts = new Map();
    for (const place of places) counts.set(place, (counts.get(place) ?? 0) + 1);
    return places.map((place) => (place ? `${place}${counts.get(place) > 1 ? "=" : ""}` : ""));
  }

  // A chart of the library, without the names that it gives to parts that have no role for screen readers.
  function draw(options) {
    const plot = Plot.plot(options);
    for (const part of plot.querySelectorAll("g[aria-label]")) part.removeAttribute("aria-label");
    return plot;
  }

  const MOST_LINKS = 150;
  function scatter(holder, points, { x, y, base, height, label, all }) {
    const width = Math.max(300, holder.clientWidth);
    const front = frontier(points, x.better, y.better);
    const inFront = new Set(front);
    const percentAxis = (column) => (column.text === percent ? (v) => `${v > 0 ? "+" : ""}${minus(String(v))} %` : column.text === millions ? millions : three);
    const name = (column) => `${column.title} ${column.unit}`.trim();
    const arrow = (column, low, high) => (column.better === "low" ? low : high);
    // Where there are very many, those on the frontier and ours are links; a keyboard would not get past all of them.
    const linked = points.length > MOST_LINKS ? points.filter((p) => inFront.has(p) || p.row.codec.by === "rdcodec").slice(0, MOST_LINKS) : points;
    const isLinked = new Set(linked), others = points.filter((p) => !isLinked.has(p));
    const dot = {
      x: "x", y: "y", r: (p) => (inFront.has(p) ? 5.5 : 4.2), symbol: (p) => KINDS[p.row.codec.by].symbol, fill: (p) => KINDS[p.row.codec.by].hue,
      fillOpacity: (p) => (inFront.has(p) ? 1 : 0.6), stroke: "var(--paper)", strokeWidth: 1, sort: null,
    };
    const plot = draw({
      width, height, marginLeft: 58, marginBottom: 44, marginTop: 26, marginRight: 20, style: { fontSize: "12px" },
      ariaLabel: label,
      x: { type: x.log ? "log" : "linear", label: `${arrow(x, "← ", "")}${name(x)}${arrow(x, "", " →")}`, labelArrow: "none", nice: true, ticks: width < 520 ? 4 : 7, tickFormat: x.log ? logTick : percentAxis(x), grid: true, labelAnchor: "center" },
      y: { type: y.log ? "log" : "linear", label: `${arrow(y, "↓ ", "↑ ")}${name(y)}`, labelArrow: "none", nice: true, ticks: 6, tickFormat: y.log ? logTick : percentAxis(y), grid: true },
      marks: [
        y.text === percent ? Plot.ruleY([0], { stroke: "var(--line-strong)" }) : null,
        Plot.line(front, { x: "x", y: "y", stroke: "var(--ink)", strokeWidth: 1.3, strokeOpacity: 0.55, curve: y.better === "low" ? "step-after" : "step-after", strokeDasharray: "3,3" }),
        others.length ? Plot.dot(others, { ...dot, r: 2.6, fillOpacity: 0.45 }) : null,
        Plot.dot(linked, {
          ...dot,
          href: (p) => `${base}codecs/${p.row.codec.slug}.html`, ariaLabel: (p) => `${p.row.codec.name}: ${name(x)} ${x.text(p.x)}, ${name(y)} ${y.text(p.y)}`,
        }),
      ].filter(Boolean),
    });
    holder.replaceChildren(plot);
    const svg = plot.tagName === "svg" ? plot : plot.querySelector("svg");
    interactive(svg, "a", linked.map((p) => tipText(p.row.codec.name, [[name(x), x.text(p.x)], [name(y), y.text(p.y)], ["on the frontier", inFront.has(p) ? "yes" : "no"]])));
    const labelled = linked.map((p) => ({ ...p, label: inFront.has(p) || all || p.row.codec.by === "rdcodec" ? p.row.codec.name.replace(" (paper)", "") : "", front: inFront.has(p) }));
    labels(svg, labelled.sort((a, b) => b.front - a.front), plot);
    return front;
  }

  const logTick = (value) => {
    const lead = +String(value / 10 ** Math.floor(Math.log10(value) + 1e-9)).slice(0, 3);
    return [1, 2, 5].includes(lead) ? (value >= 1e6 ? millions(value) : three(value)) : "";
  };

  // A plain table of what a chart shows.
  function dataTable(holder, heads, rows) {
    holder.replaceChildren(el("table", {},
      el("thead", {}, el("tr", {}, ...heads.map((head, i) => el("th", { scope: "col", class: i ? null : "text" }, head)))),
      el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell, i) => el(i ? "td" : "th", { scope: i ? null : "row", class: i ? null : "text" }, cell)))))));
  }

  function kindKey(holder, points) {
    const kinds = Object.keys(KINDS).filter((kind) => points.some((p) => p.row.codec.by === kind));
    holder.replaceChildren(...kinds.map((kind) => el("li", {}, el("i", { style: `--key:${KINDS[kind].hue}` }), KINDS[kind].name)));
  }

  const onResize = (run) => { let wait; addEventListener("resize", () => { clearTimeout(wait); wait = setTimeout(run, 120); }); };

  return { state, load, el, options, percent, three, fixed, minus, KINDS, COLUMNS, WORDS, rowsOf, machineOptions, speedOf, tipText, interactive, labels, frontier, ranks, draw, scatter, dataTable, kindKey, onResize, escape };
})();
