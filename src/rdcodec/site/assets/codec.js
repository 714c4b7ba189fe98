// A codec's page: its curve on a set of pictures, beside the reference.
"use strict";
(() => {
  const holder = document.getElementById("chart");
  if (!holder || !window.CODEC) return;
  const select = document.getElementById("set");
  const state = Bench.state({ set: CODEC.curves[0].set });
  function draw() {
    const found = CODEC.curves.find((c) => c.set === state.values.set) ?? CODEC.curves[0];
    const own = found.points.filter((p) => p.psnr != null);
    const high = Math.max(...own.map((p) => p.bpp)) * 1.15, low = Math.min(...own.map((p) => p.bpp)) * 0.6;
    const reference = found.reference.filter((p) => p.psnr != null && p.bpp <= high && p.bpp >= low);
    const plot = Bench.draw({
      width: Math.max(280, holder.clientWidth), height: 320, marginLeft: 46, marginBottom: 42, marginTop: 22, style: { fontSize: "12px" }, ariaLabel: `PSNR against rate of ${CODEC.name}`,
      x: { label: "Rate, bits per pixel", labelAnchor: "center", labelArrow: "none", grid: true, nice: true, ticks: 5 }, y: { label: "↑ PSNR dB", labelArrow: "none", grid: true, nice: true, ticks: 6 },
      marks: [
        Plot.line(reference, { x: "bpp", y: "psnr", stroke: "var(--faint)", strokeWidth: 1.6, strokeDasharray: "4,3", curve: "monotone-x" }),
        Plot.line(own, { x: "bpp", y: "psnr", stroke: "var(--c1)", strokeWidth: 2.2, curve: "monotone-x" }),
        Plot.dot(own, { x: "bpp", y: "psnr", fill: "var(--c1)", r: 4, stroke: "var(--paper)" }),
      ],
    });
    holder.replaceChildren(plot);
    document.getElementById("reference").textContent = reference.length ? found.reference_name : "";
    document.getElementById("referencekey").hidden = !reference.length;
  }
  if (select) {
    Bench.options(select, CODEC.curves.map((c) => ({ value: c.set, text: c.name })), state.values.set);
    select.addEventListener("change", () => state.set({ set: select.value }));
  }
  state.onChange(draw);
  Bench.onResize(draw);
  draw();
})();
