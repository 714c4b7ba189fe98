import { RdcError } from "./errors.js";
const MOST_HELPERS = 3;
const FEWEST_ROWS = 8; // of latents in a strip: with fewer, most of what it computes its neighbours compute too
/** RGBA samples of a strip, opaque: bit for bit those of the whole picture. */
export function draw(core, { width, height, first, end, from, to, y, arrays }) {
    const failed = (why) => new RdcError(`the picture could not be drawn (${why})`);
    return core.run(failed, (memory, model) => {
        const { rdc_draw, rdc_free } = memory.exports;
        const latents = memory.put(y);
        const address = memory.with(arrays, (at, bytes) => rdc_draw(model, latents, from, to, first, end, height, width, at, bytes));
        const rows = Math.min(16 * end, height) - 16 * first;
        const data = opaque(memory.bytes(address, 3 * width * rows));
        rdc_free(latents);
        rdc_free(address);
        return data;
    });
}
/** RGB as RGBA. */
export function opaque(rgb) {
    const rgba = new Uint8ClampedArray((rgb.length / 3) * 4);
    for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
        rgba[to] = rgb[from];
        rgba[to + 1] = rgb[from + 1];
        rgba[to + 2] = rgb[from + 2];
        rgba[to + 3] = 255;
    }
    return rgba;
}
/** Strips of a picture that is so many rows of latents high, for so many hands: first and end of each. */
export function divided(rows, hands) {
    const count = Math.max(1, Math.min(hands, Math.floor(rows / FEWEST_ROWS)));
    const edge = (k) => Math.floor((rows * k) / count);
    return Array.from({ length: count }, (_, k) => [edge(k), edge(k + 1)]);
}
/** Workers that draw strips, as many as there are other processor cores; they start when they are needed first. */
export class Helpers {
    count = typeof Worker === "undefined" ? 0 : Math.min((navigator.hardwareConcurrency || 1) - 1, MOST_HELPERS);
    workers = [];
    waiting = new Map();
    model; // that they have
    next = 0;
    /** Have helpers ready that know the model. */
    take(core, count) {
        const known = this.model === core ? this.workers.length : 0;
        while (this.workers.length < count)
            this.workers.push(this.started());
        this.model = core;
        const untold = this.workers.slice(known);
        if (!untold.length)
            return;
        const told = { tag: core.tag, module: core.module, arrays: core.arrays() };
        for (const worker of untold)
            worker.postMessage(told);
    }
    /** A strip, drawn by a helper that was made ready; undefined where it could not. */
    draw(helper, strip) {
        const id = this.next++;
        return new Promise((done) => {
            this.waiting.set(id, done);
            this.workers[helper].postMessage({ id, strip }, [strip.y.buffer]);
        });
    }
    started() {
        const made = new Worker(new URL("./helper.js", import.meta.url), { type: "module" });
        made.onmessage = ({ data: { id, data } }) => {
            this.waiting.get(id)?.(data);
            this.waiting.delete(id);
        };
        made.onerror = (event) => {
            event.preventDefault();
            this.giveUp();
        };
        return made;
    }
    /** Without helpers from now on: this browser does not start them. */
    giveUp() {
        Object.assign(this, { count: 0 });
        for (const worker of this.workers.splice(0))
            worker.terminate();
        for (const done of this.waiting.values())
            done(undefined);
        this.waiting.clear();
    }
}
