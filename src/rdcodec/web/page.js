/** The page of `rdc web`: a photograph through the codec and back, beside the browser's own encoders. */
import { decodeTimed, encodeTimed, info } from "./index.js";
import { MAX_PIXELS } from "./container.js";
import { RdcError } from "./errors.js";
import { png } from "./png.js";
const WEIGHTS = "weights/";
const RIVALS = [["JPEG", "image/jpeg"], ["WebP", "image/webp"], ["AVIF", "image/avif"]];
const at = (id) => document.getElementById(id);
const file = at("file"), quality = at("quality"), size = at("size");
const model = at("model"), left = at("left"), zoom = at("zoom");
const split = at("split"), stage = at("stage"), save = at("save-rdc");
let original;
let versions = [];
let shown;
let turn = 0; // of what was asked for last: what an earlier turn brings is dropped
file.addEventListener("change", () => {
    const chosen = file.files?.[0];
    file.value = ""; // so that the same file can be chosen again
    if (chosen)
        void open(chosen);
});
at("sample").addEventListener("click", () => void attempt(sample));
for (const control of [quality, size, model])
    control.addEventListener("change", compress);
quality.addEventListener("input", () => { size.value = ""; at("told").textContent = quality.value; });
left.addEventListener("change", drawLeft);
zoom.addEventListener("change", () => { layOut(); toMiddle(); });
split.addEventListener("input", divide);
at("save-png").addEventListener("click", savePng);
at("controls").addEventListener("submit", (event) => event.preventDefault());
for (const name of ["pointerdown", "pointermove"])
    stage.addEventListener(name, drag);
window.addEventListener("resize", layOut);
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const dropped = event.dataTransfer?.files[0];
    if (dropped)
        void open(dropped);
});
if ("serviceWorker" in navigator)
    void navigator.serviceWorker.register("service-worker.js").catch(() => undefined);
async function open(chosen) {
    await attempt(async (mine) => {
        say(`Reading ${chosen.name} …`);
        const data = new Uint8Array(await chosen.arrayBuffer());
        if (data[0] === 0x8a && data[1] === 0x52)
            return view(chosen.name, data, mine);
        const image = await samplesOf(new Blob([data], { type: chosen.type }));
        if (mine !== turn)
            return;
        original = { name: chosen.name, image };
        await compressed(mine);
    }, chosen.name);
}
/** A photograph for those who have none at hand. */
async function sample(mine) {
    const found = await fetch("sample.png");
    if (!found.ok)
        throw new RdcError("the sample is not here: choose a photograph of your own");
    const image = await samplesOf(await found.blob());
    if (mine !== turn)
        return;
    original = { name: "sample.png", image };
    await compressed(mine);
}
async function view(name, data, mine) {
    const { tag } = info(data);
    const { image, seconds } = await decodeTimed(data, { weights: WEIGHTS, onProgress });
    if (mine !== turn)
        return;
    original = undefined;
    present(name, data, [{ name: `rdcodec ${tag}`, image, bytes: data.length, decode: seconds }], image.icc);
    say(`${name}: ${image.width} × ${image.height} pixels, ${data.length.toLocaleString("en")} bytes, weights ${tag}.`);
}
async function compress() {
    if (original)
        await attempt(compressed);
}
async function compressed(mine) {
    const { name, image } = original;
    say(`Compressing ${name} …`);
    const target = size.value ? { bytes: 1000 * Number(size.value) } : { quality: Number(quality.value) };
    const coded = await encodeTimed(image, { ...target, model: model.value, weights: WEIGHTS, onProgress });
    const decoded = await decodeTimed(coded.data, { weights: WEIGHTS, onProgress });
    if (mine !== turn)
        return;
    const ours = { name: `rdcodec ${info(coded.data).tag}`, image: decoded.image, bytes: coded.data.length };
    const all = [
        { ...ours, psnr: psnr(image, decoded.image), encode: coded.seconds, decode: decoded.seconds },
        { name: "original", image },
    ];
    quality.value = at("told").textContent = String(Math.round(coded.quality));
    present(name, coded.data, all);
    const missing = [];
    for (const [rival, type] of RIVALS) {
        say(`Compressing ${name} as ${rival} …`);
        const found = await rivalOf(rival, type, image, coded.data.length);
        if (mine !== turn)
            return;
        if (typeof found === "string")
            missing.push(found);
        else
            present(name, coded.data, (all.push(found), all));
    }
    const told = `${image.width} × ${image.height} pixels at quality ${coded.quality}: ${coded.data.length.toLocaleString("en")} bytes.`;
    say([`${name}: ${told}`, ...missing].join(" "));
}
/** The browser's encoder at the best quality that takes no more bytes; words where there is none. */
async function rivalOf(name, type, image, bytes) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    const coded = (percent) => new Promise((done) => canvas.toBlob(done, type, percent / 100));
    const begun = performance.now();
    let best = await coded(0), time = since(begun);
    if (best?.type !== type)
        return `This browser writes no ${name}.`;
    if (best.size > bytes)
        return `${name} cannot be that small: at least ${best.size.toLocaleString("en")} bytes.`;
    for (let low = 0, high = 99; low < high;) {
        const middle = Math.ceil((low + high) / 2), start = performance.now();
        const found = (await coded(middle));
        if (found.size > bytes)
            high = middle - 1;
        else
            [low, best, time] = [middle, found, since(start)];
    }
    const start = performance.now();
    const decoded = await samplesOf(best);
    return { name, image: decoded, bytes: best.size, psnr: psnr(image, decoded), encode: time, decode: since(start) };
}
async function samplesOf(blob) {
    const bitmap = await createImageBitmap(blob).catch(() => undefined);
    if (!bitmap)
        throw new RdcError("no picture that this browser can read, and no .rdc file");
    const { width, height } = bitmap;
    try {
        if (width * height > MAX_PIXELS)
            throw new RdcError(`${width} × ${height} pixels are more than this page takes`);
        const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(bitmap, 0, 0);
        return context.getImageData(0, 0, width, height);
    }
    finally {
        bitmap.close();
    }
}
function psnr(a, b) {
    let sum = 0;
    for (let i = 0; i < a.data.length; i++)
        if (i % 4 < 3)
            sum += (a.data[i] - b.data[i]) ** 2;
    return 10 * Math.log10((255 ** 2 * 0.75 * a.data.length) / sum);
}
function present(name, data, found, icc) {
    const chosen = left.value;
    versions = found;
    shown = { name: name.replace(/\.[^.]*$/, ""), image: found[0].image, icc };
    at("result").hidden = false;
    paint(at("right-side"), found[0]);
    left.replaceChildren(...found.slice(1).map(({ name }) => new Option(name, name, false, name === chosen)));
    left.parentElement.hidden = split.parentElement.hidden = found.length < 2;
    at("rows").replaceChildren(...found.filter(({ bytes }) => bytes).map(row));
    URL.revokeObjectURL(save.href);
    save.href = URL.createObjectURL(new Blob([data], { type: "application/octet-stream" }));
    save.download = `${shown.name}.rdc`;
    drawLeft();
    layOut();
}
function row({ name, bytes, psnr, encode, decode, image }) {
    const line = document.createElement("tr");
    const number = (value, digits) => (value === undefined ? "–" : value.toFixed(digits));
    const bpp = (8 * bytes) / image.width / image.height;
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
    line.append(head);
    for (const text of [bytes.toLocaleString("en"), number(bpp, 3), number(psnr, 2), number(encode, 2), number(decode, 2)])
        line.insertCell().textContent = text;
    return line;
}
function paint(canvas, { name, image }) {
    const surface = canvas;
    Object.assign(surface, { width: image.width, height: image.height });
    surface.getContext("2d").putImageData(image, 0, 0);
    surface.setAttribute("aria-label", name);
}
function drawLeft() {
    const version = versions.slice(1).find(({ name }) => name === left.value);
    at("left-side").hidden = at("line").hidden = !version;
    if (version)
        paint(at("left-side"), version);
    divide();
}
function layOut() {
    if (!shown)
        return;
    const { width, height } = shown.image, room = at("scroll").clientWidth;
    const fit = Math.min(room, width, (0.75 * innerHeight * width) / height);
    const times = Number(zoom.value) / devicePixelRatio;
    stage.style.width = `${zoom.value === "fit" ? fit : width * times}px`;
    stage.classList.toggle("fits", zoom.value === "fit"); // then a finger moves the line, not the picture
    stage.classList.toggle("large", zoom.value !== "fit" && Number(zoom.value) > 1);
}
function toMiddle() {
    const view = at("scroll");
    view.scrollTo((view.scrollWidth - view.clientWidth) / 2, (view.scrollHeight - view.clientHeight) / 2);
}
function divide() {
    at("left-side").style.clipPath = `inset(0 ${100 - Number(split.value)}% 0 0)`;
    at("line").style.left = `${split.value}%`;
    const right = versions[0]?.name ?? "";
    at("sides").textContent = `Left: ${left.value}. Right: ${right}. Move where they meet:`;
    split.ariaValueText = `${split.value} % ${left.value}, the rest ${right}`;
}
function drag(event) {
    if (event.type === "pointermove" && !event.buttons)
        return;
    const { left, width } = stage.getBoundingClientRect();
    split.value = String((100 * (event.clientX - left)) / width);
    divide();
}
async function savePng() {
    if (!shown)
        return;
    const { name, image, icc } = shown; // another may be shown by the time it is written
    const file = await png(image, icc).catch(() => undefined);
    if (!file)
        return tell("the PNG file could not be written: close other pages, and try again");
    const blob = new Blob([file], { type: "image/png" });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${name}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
/** Run a task; what it throws is told in words, with the name of the file that it is about. */
async function attempt(task, name) {
    const mine = ++turn;
    at("error").hidden = true;
    try {
        await task(mine);
    }
    catch (error) {
        if (mine !== turn)
            return;
        const words = error instanceof RdcError ? error.message : `something failed in this page (${error})`;
        tell(words, name);
        say("");
    }
    finally {
        if (mine === turn)
            at("progress").hidden = true;
    }
}
function onProgress(loaded, total) {
    const bar = at("progress");
    bar.hidden = loaded >= total;
    bar.value = loaded / total;
    say(loaded < total ? `Fetching weights, once: ${(total / 1e6).toFixed(1)} MB …` : "The weights are here. Computing …");
}
/** An error in words, with the name of the file that it is about. */
function tell(words, name) {
    at("error").textContent = name ? `${name}: ${words}.` : sentence(words);
    at("error").hidden = false;
}
/** Words for the eye and for screen readers, which read what changes. */
function say(words) {
    if (at("status").textContent !== words)
        at("status").textContent = words;
}
function sentence(words) {
    return `${words[0].toUpperCase()}${words.slice(1)}.`;
}
function since(start) {
    return (performance.now() - start) / 1000;
}
