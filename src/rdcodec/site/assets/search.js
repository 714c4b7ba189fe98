// Search over the documents: every word has to occur; headings count more.
"use strict";
(() => {
  const input = document.getElementById("search"), list = document.getElementById("found"), status = document.getElementById("status");
  if (!input || typeof SECTIONS === "undefined") return;
  const state = Bench.state({ q: "" });
  const plain = (text) => text.toLowerCase();
  for (const section of SECTIONS) section.haystack = plain(`${section.page} ${section.heading} ${section.text}`);
  function score(section, words) {
    let sum = 0;
    for (const word of words) {
      const first = section.haystack.indexOf(word);
      if (first < 0) return 0;
      sum += 1 + (plain(section.heading).includes(word) ? 8 : 0) + (plain(section.page).includes(word) ? 3 : 0) + Math.min(4, section.haystack.split(word).length - 1) / 2;
    }
    return sum;
  }
  function excerpt(section, words) {
    const at = Math.max(0, Math.min(...words.map((word) => plain(section.text).indexOf(word)).filter((i) => i >= 0), 1e9));
    const start = at > 1e8 ? 0 : Math.max(0, at - 60);
    let html = Bench.escape((start ? "… " : "") + section.text.slice(start, start + 200) + (section.text.length > start + 200 ? " …" : ""));
    for (const word of words) html = html.replace(new RegExp(word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi"), (hit) => `<mark>${hit}</mark>`);
    return html;
  }
  function draw() {
    const words = plain(state.values.q).split(/\s+/).filter(Boolean);
    if (document.activeElement !== input) input.value = state.values.q;
    const hits = words.length ? SECTIONS.map((section) => [score(section, words), section]).filter(([n]) => n).sort(([a], [b]) => b - a).slice(0, 20) : [];
    list.replaceChildren(...hits.map(([, section]) => {
      const item = Bench.el("li", {}, Bench.el("a", { href: section.url }, Bench.el("b", {}, section.heading === section.page ? section.page : `${section.page}: ${section.heading}`)));
      const text = Bench.el("div", { class: "small muted" });
      text.innerHTML = excerpt(section, words);
      item.append(text);
      return item;
    }));
    status.textContent = words.length ? `${hits.length === 20 ? "The best 20" : hits.length} ${hits.length === 1 ? "place" : "places"}` : "";
    document.getElementById("pages").hidden = words.length > 0;
  }
  input.addEventListener("input", () => state.set({ q: input.value }));
  state.onChange(draw);
  draw();
})();
