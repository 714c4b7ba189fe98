/** Strips of a picture, drawn side by side: by this worker and by helpers, each with an instance of the core. */
import type { Core } from "./core.js";
import { RdcError } from "./errors.js";

const MOST_HELPERS = 3;
const FEWEST_ROWS = 8; // of latents in a strip: with fewer, most of what it computes its neighbours compute too

/** Rows `first` to `end` of latents, sixteen of pixels each. The other rows of `y` are what these see. */
export interface Strip {
  width: number; // of the whole picture, pixels
  height: number;
  first: number;
  end: number;
  from: number; // rows of latents that are in `y`
  to: number;
  y: Float32Array<ArrayBuffer>;
  arrays: Uint8Array; // unit, tint and tenths, packed
}

/** What a helper is told: first the model, then strips of its pictures. */
export type Told = { tag: string; module: WebAssembly.Module; arrays: Uint8Array } | { id: number; strip: Strip };
export type Drawn = { id: number; data: Uint8ClampedArray<ArrayBuffer> | undefined }; // undefined: it could not

/** RGBA samples of a strip, opaque: bit for bit those of the whole picture. */
export function draw(core: Core, { width, height, first, end, from, to, y, arrays }: Strip): Uint8ClampedArray<ArrayBuffer> {
  const failed = (why: string) => new RdcError(`the picture could not be drawn (${why})`);
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
export function opaque(rgb: Uint8Array): Uint8ClampedArray<ArrayBuffer> {
  const rgba = new Uint8ClampedArray((rgb.length / 3) * 4);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    rgba[to] = rgb[from]!;
    rgba[to + 1] = rgb[from + 1]!;
    rgba[to + 2] = rgb[from + 2]!;
    rgba[to + 3] = 255;
  }
  return rgba;
}

/** Strips of a picture that is so many rows of latents high, for so many hands: first and end of each. */
export function divided(rows: number, hands: number): [number, number][] {
  const count = Math.max(1, Math.min(hands, Math.floor(rows / FEWEST_ROWS)));
  const edge = (k: number) => Math.floor((rows * k) / count);
  return Array.from({ length: count }, (_, k) => [edge(k), edge(k + 1)]);
}

/** Workers that draw strips, as many as there are other processor cores; they start when they are needed first. */
export class Helpers {
  readonly count = typeof Worker === "undefined" ? 0 : Math.min((navigator.hardwareConcurrency || 1) - 1, MOST_HELPERS);
  private readonly workers: Worker[] = [];
  private readonly waiting = new Map<number, (data: Drawn["data"]) => void>();
  private model: Core | undefined; // that they have
  private next = 0;

  /** Have helpers ready that know the model. */
  take(core: Core, count: number): void {
    const known = this.model === core ? this.workers.length : 0;
    while (this.workers.length < count) this.workers.push(this.started());
    this.model = core;
    const untold = this.workers.slice(known);
    if (!untold.length) return;
    const told = { tag: core.tag, module: core.module, arrays: core.arrays() };
    for (const worker of untold) worker.postMessage(told satisfies Told);
  }

  /** A strip, drawn by a helper that was made ready; undefined where it could not. */
  draw(helper: number, strip: Strip): Promise<Drawn["data"]> {
    const id = this.next++;
    return new Promise((done) => {
      this.waiting.set(id, done);
      this.workers[helper]!.postMessage({ id, strip } satisfies Told, [strip.y.buffer]);
    });
  }

  private started(): Worker {
    const made = new Worker(new URL("./helper.js", import.meta.url), { type: "module" });
    made.onmessage = ({ data: { id, data } }: MessageEvent<Drawn>) => {
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
  private giveUp(): void {
    Object.assign(this, { count: 0 });
    for (const worker of this.workers.splice(0)) worker.terminate();
    for (const done of this.waiting.values()) done(undefined);
    this.waiting.clear();
  }
}
