// The leaderboard: filter, sort, choose columns; all of it kept in the address.
"use strict";
(() => {
  const { el, KINDS, COLUMNS, WORDS } = Bench;
  const board = BOARD, by = (id) => document.getElementById(id);
  const columns = [...COLUMNS, ...WORDS], PAGE = 100;
  const narrow = innerWidth < 640;
  const machines = Bench.machineOptions(board);
  const state = Bench.state({
    set: board.sets[0]?.slug ?? "", machine: machines[0]?.value ?? "", kinds: "rdcodec,paper,other,costed", licence: "", exact: "", evidence: "", find: "",
    sort: "rate", order: "up", columns: narrow ? "rate,kflops,decode" : "rate,bd,bdms,bdeye,kflops,params,decode,encode,exact,evidence", pages: "1",
  });
  const s = state.values;

  // Published curves count as two kinds: with a known cost, and as curves alone.
  const kindOf = (row) => (row.codec.by === "published" ? (row.codec.kflops != null ? "costed" : "published") : row.codec.by);
  const CHIPS = [["rdcodec", "rdcodec", KINDS.rdcodec.hue], ["other", "Measured, others", KINDS.other.hue], ["paper", "The paper", KINDS.paper.hue], ["costed", "Published, with cost", KINDS.published.hue], ["published", "Published curves", KINDS.published.hue]];

  function visible() {
    const kinds = new Set(s.kinds.split(",")), find = s.find.trim().toLowerCase();
    return Bench.rowsOf(board, s.set).filter((row) => kinds.has(kindOf(row))
      && (!s.licence || row.codec.licence === s.licence)
      && (!s.exact || row.codec.exact === s.exact)
      && (!s.evidence || row.evidence === s.evidence)
      && (!find || `${row.codec.name} ${row.codec.tag} ${row.codec.source}`.toLowerCase().includes(find)));
  }

  function sorted(rows) {
    const column = columns.find((c) => c.key === s.sort);
    const sign = s.order === "up" ? 1 : -1;
    const keyed = rows.map((row) => [column ? column.value(row, s.machine) : row.codec.name.toLowerCase(), row]);
    const blank = (value) => value == null || value === "";
    keyed.sort(([a], [b]) => blank(a) - blank(b) || (blank(a) ? 0 : sign * (a < b ? -1 : a > b ? 1 : 0)));
    return keyed.map(([, row]) => row);
  }

  function cell(column, row) {
    const value = column.value(row, s.machine);
    if (column.word) return el("td", { class: "text" }, value ? value : el("span", { class: "none" }, "·"));
    if (value == null) return el("td", {}, el("span", { class: "none" }, "·"));
    if (!column.meter) return el("td", {}, column.text(value));
    const size = Math.min(50, Math.abs(value)), from = value < 0 ? 50 - size : 50;
    const style = `--from:${from}%;--size:${size}%;--hue:var(--bar-${value < 0 ? "good" : "bad"})`;
    const low = row[`${column.key}_low`];
    const range = low == null ? null : `${Bench.percent(low).replace(" %", "")} to ${Bench.percent(row[`${column.key}_high`]).replace(" %", "")}`;
    return el("td", {}, el("span", range ? {} : { class: "meter", style }, column.text(value)), range ? el("small", { class: "range" }, range) : null);
  }

  function heading(column) {
    const active = s.sort === column.key;
    return el("th", { scope: "col", class: column.word ? "text" : null, "aria-sort": active ? (s.order === "up" ? "ascending" : "descending") : null },
      el("button", { type: "button", title: column.help, "data-sort": column.key, onclick: () => sortBy(column) },
        el("span", {}, column.title), column.unit ? el("small", {}, column.unit) : null));
  }

  function sortBy(column) {
    const first = column.better === "high" ? "down" : "up";
    const order = s.sort === column.key ? (s.order === "up" ? "down" : "up") : first;
    state.set({ sort: column.key, order });
    document.querySelector(`[data-sort="${column.key}"]`)?.focus();
  }

  function draw() {
    const began = performance.now();
    const shown = s.columns.split(",").map((key) => columns.find((c) => c.key === key)).filter(Boolean);
    const rows = sorted(visible());
    const page = rows.slice(0, PAGE * s.pages);
    const column = columns.find((c) => c.key === s.sort);
    const places = column && !column.word ? Bench.ranks(rows, column, s.machine) : null;
    const name = { key: "name", title: "Codec", unit: "version", help: "Sort by name" };
    const head = heading(name);
    head.className = "name";
    const body = page.map((row, index) => el("tr", {},
      places ? el("td", { class: "rank" }, places[index]) : null,
      el("td", { class: "name" },
        el("i", { style: `--key:${KINDS[row.codec.by].hue}`, title: KINDS[row.codec.by].name }),
        el("a", { href: `codecs/${row.codec.slug}.html` }, row.codec.name),
        row.conflicts ? el("span", { class: "tag", title: "Measured more than once, with different figures" }, "differs") : null,
        row.codec.tag !== row.codec.name ? el("small", { class: "sub" }, row.codec.tag.split(";")[0]) : null),
      ...shown.map((column) => cell(column, row))));
    by("board").replaceChildren(el("thead", {}, el("tr", {}, places ? el("th", { class: "rank", scope: "col" }, el("span", { class: "hidden" }, "Rank")) : null, head, ...shown.map(heading))), el("tbody", {}, ...body));
    caption(rows.length, column, places);
    const left = rows.length - page.length;
    by("more").hidden = left <= 0;
    by("more").textContent = left > PAGE ? `Show ${PAGE} more of ${rows.length}` : `Show all ${rows.length}`;
    by("board").dataset.ms = (performance.now() - began).toFixed(1);
    chips();
  }

  // What is compared, on what, and what is better.
  function caption(count, column, places) {
    const set = board.sets.find((one) => one.slug === s.set), [machine, way] = s.machine.split("|");
    const on = board.machines.find((one) => one.slug === machine)?.name;
    const parts = [`${count.toLocaleString("en")} ${count === 1 ? "row" : "rows"} on ${set ? set.name : "no pictures"}${set?.count ? ` (${set.count} pictures)` : ""}.`];
    if (set?.reference) parts.push(`Rates are against ${set.reference} at equal quality: negative means smaller files.`);
    if (set?.eye && s.columns.split(",").includes("bdeye")) parts.push(`Those by SSIMULACRA 2 are against ${set.eye}.`);
    if (on) parts.push(`Speeds are on ${on}, ${way || "each codec’s fastest way"}: more is better.`);
    if (places) parts.push(`Ranks are by ${column.title}${column.unit ? ` ${column.unit}` : ""}; = marks ties${column.key === "bd" ? ", among them codecs whose intervals overlap" : ""}.`);
    by("caption").textContent = parts.join(" ");
  }

  function chips() {
    const rows = Bench.rowsOf(board, s.set), on = new Set(s.kinds.split(","));
    by("kinds").replaceChildren(...CHIPS.map(([key, text, hue]) => {
      const count = rows.filter((row) => kindOf(row) === key).length;
      if (!count) return null;
      return el("button", { type: "button", class: "chip", "data-kind": key, "aria-pressed": String(on.has(key)), style: `--key:${hue}`, onclick: () => toggle(key) }, el("i"), text, el("small", {}, String(count)));
    }).filter(Boolean));
  }

  function toggle(key) {
    const on = new Set(s.kinds.split(",").filter(Boolean));
    if (!on.delete(key)) on.add(key);
    state.set({ kinds: CHIPS.map(([k]) => k).filter((k) => on.has(k)).join(",") });
    document.querySelector(`[data-kind="${key}"]`)?.focus();
  }

  function controls() {
    Bench.options(by("set"), board.sets.map((one) => ({ value: one.slug, text: `${one.name}${one.count ? ` (${one.count} pictures)` : ""}` })), s.set);
    Bench.options(by("machine"), machines, s.machine);
    const licences = [...new Set(board.codecs.map((c) => c.licence).filter(Boolean))].sort();
    Bench.options(by("licence"), [{ value: "", text: "Any" }, ...licences.map((text) => ({ value: text, text }))], s.licence);
    Bench.options(by("exact"), [{ value: "", text: "Any" }, { value: "yes", text: "Yes" }, { value: "no", text: "No" }], s.exact);
    Bench.options(by("evidence"), [{ value: "", text: "Any" }, { value: "file", text: "Real files" }, { value: "published", text: "Published figures" }, { value: "estimate", text: "Estimates" }], s.evidence);
    by("find").value = s.find;
    const on = new Set(s.columns.split(","));
    by("columns").replaceChildren(...columns.map((column) => el("label", { title: column.help },
      el("input", { type: "checkbox", value: column.key, checked: on.has(column.key), onchange: pick }), `${column.title}${column.unit ? `, ${column.unit}` : ""}`)));
  }

  function pick() {
    const on = [...by("columns").querySelectorAll("input:checked")].map((input) => input.value);
    state.set({ columns: on.join(",") });
  }

  function hero() {
    const holder = by("hero");
    if (!holder || !window.Plot) return;
    const x = COLUMNS.find((c) => c.key === "kflops"), y = COLUMNS.find((c) => c.key === "rate");
    const points = Bench.rowsOf(board, board.sets[0]?.slug).map((row) => ({ row, x: row.codec.kflops, y: row.rate })).filter((p) => p.x > 0 && p.y != null && p.y < 60);
    const draw = () => { Bench.scatter(holder, points, { x, y, base: "", height: 300, label: "Rate against computation of the decoder" }); };
    if (points.length > 1) { draw(); Bench.onResize(draw); Bench.kindKey(by("herokey"), points); } else holder.closest("figure").hidden = true;
  }

  for (const id of ["set", "machine", "licence", "exact", "evidence"]) by(id).addEventListener("change", (event) => state.set({ [id]: event.target.value, pages: "1" }));
  by("find").addEventListener("input", (event) => state.set({ find: event.target.value, pages: "1" }));
  by("more").addEventListener("click", () => {
    const seen = by("board").tBodies[0].rows.length;
    state.set({ pages: String(+s.pages + 1) });
    by("board").tBodies[0].rows[seen]?.querySelector("a").focus();
  });
  document.addEventListener("click", (event) => { for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); } });
  state.onChange(draw);
  addEventListener("hashchange", controls);
  controls();
  draw();
  hero();
})();
