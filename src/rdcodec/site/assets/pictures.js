// Two pictures of one file size under a wipe; which two stands in the address.
"use strict";
(() => {
  const by = (id) => document.getElementById(id), shots = window.SHOTS ?? [];
  if (!by("wipe")) return;
  const state = Bench.state({ left: shots[Math.min(1, shots.length - 1)].name, right: (shots.find((shot) => shot.name.startsWith("JPEG")) ?? shots[0]).name, at: "50" });
  const s = state.values, find = (name) => shots.find((shot) => shot.name === name) ?? shots[0];
  const note = (shot) => (shot.bytes ? `${shot.name} · ${shot.bytes.toLocaleString("en")} B · ${shot.psnr}` : shot.name);
  function draw() {
    for (const side of ["left", "right"]) {
      const shot = find(s[side]);
      const image = by(`${side}image`);
      image.src = shot.file;
      image.alt = note(shot);
      by(`${side}name`).textContent = note(shot);
    }
    by("wipe").style.setProperty("--at", `${s.at}%`);
    by("at").value = s.at;
  }
  for (const side of ["left", "right"]) {
    Bench.options(by(side), shots.map((shot) => ({ value: shot.name, text: shot.name })), s[side]);
    by(side).addEventListener("change", (event) => state.set({ [side]: event.target.value }));
  }
  by("at").addEventListener("input", (event) => state.set({ at: event.target.value }));
  const move = (event) => { const box = by("wipe").getBoundingClientRect(); state.set({ at: String(Math.round(Math.min(100, Math.max(0, 100 * (event.clientX - box.x) / box.width)))) }); };
  by("wipe").addEventListener("pointerdown", (event) => { by("wipe").setPointerCapture(event.pointerId); move(event); });
  by("wipe").addEventListener("pointermove", (event) => { if (event.buttons) move(event); });
  by("wipe").addEventListener("dragstart", (event) => event.preventDefault());
  state.onChange(draw);
  draw();
})();
