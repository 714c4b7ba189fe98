/** What pages call: `decode`, `encode`, `info`, and the element `<rdc-img>`. A worker does the work. */
import type { Coded, Picture, Target } from "./codec.js";
import * as container from "./container.js";
import { revived, RdcError } from "./errors.js";
import type { Progress, Source } from "./store.js";
import type { Answer, Request } from "./worker.js";

export { BadInput, NeedsModel, RdcError } from "./errors.js";
export { RELEASED } from "./released.js";
export type { Progress, Source } from "./store.js";

export interface DecodeOptions {
  weights: Source; // folder of the weights, as a URL, or the bytes of a weights file
  maxPixels?: number; // 40 million, unless more are allowed
  onProgress?: Progress; // bytes of weights: fetched, in all
}

export interface EncodeOptions extends Target {
  weights: Source;
  model?: string; // a name ("I": its newest weights, the default) or a tag
  onProgress?: Progress;
}

/** What a file says of itself. */
export interface Info {
  width: number;
  height: number;
  tag: string; // of the weights that decode it
  quality: number | undefined; // undefined: its model has one rate
  hasAlpha: boolean;
  isGrey: boolean;
  icc: Uint8Array | undefined; // colour profile of the samples; sRGB without one
  exif: Uint8Array | undefined;
  xmp: Uint8Array | undefined;
}

/** What a file says of itself; its beginning, up to the end of its sections, is enough. BadInput for others. */
export function info(data: Uint8Array, maxPixels = container.MAX_PIXELS): Info {
  const header = container.readHeader(data, maxPixels);
  const section = (id: number) => container.sectionOf(header, id);
  return {
    width: header.width,
    height: header.height,
    tag: header.tag,
    quality: header.tenths === container.SINGLE_RATE ? undefined : header.tenths / 10,
    hasAlpha: section(container.ALPHA) !== undefined,
    isGrey: section(container.GREY) !== undefined,
    icc: section(container.ICC),
    exif: section(container.EXIF),
    xmp: section(container.XMP),
  };
}

/** A picture with its alpha, and the colour profile of its samples; sRGB without one. */
export type Decoded = ImageData & { icc: Uint8Array | undefined };

/** The picture of an `.rdc` file. BadInput for damage or size, NeedsModel for unknown weights. */
export async function decode(data: Uint8Array, options: DecodeOptions): Promise<Decoded> {
  return (await decodeTimed(data, options)).image;
}

/** As `decode`, with the seconds of work, without what was fetched. */
export async function decodeTimed(data: Uint8Array, options: DecodeOptions): Promise<{ image: Decoded; seconds: number }> {
  const { maxPixels = container.MAX_PIXELS, onProgress } = options;
  const { icc } = info(data, maxPixels);
  const weights = absolute(options.weights);
  const picture = (await ask({ kind: "decode", data, weights, maxPixels }, onProgress)) as Picture & { seconds: number };
  const image = Object.assign(new ImageData(picture.data, picture.width, picture.height), { icc });
  return { image, seconds: picture.seconds };
}

/** The bytes of an `.rdc` file, quality 0 to 100 (default 50), or the best of so many `bytes`. */
export async function encode(image: ImageData, options: EncodeOptions): Promise<Uint8Array> {
  return (await encodeTimed(image, options)).data;
}

/** As `encode`, with the quality that was taken and the seconds of work. */
export async function encodeTimed(image: ImageData, options: EncodeOptions): Promise<Coded & { seconds: number }> {
  const { model = "I", onProgress, quality, bytes } = options;
  const { width, height, data, colorSpace = "srgb" } = image;
  if (colorSpace !== "srgb" || data.BYTES_PER_ELEMENT !== 1) // not instanceof: samples may come from another frame
    throw new RdcError("samples in another colour space or with more than 8 bits: draw the picture on a canvas in sRGB first");
  const target = { ...(quality === undefined ? {} : { quality }), ...(bytes === undefined ? {} : { bytes }) };
  const picture = { width, height, data: data as Picture["data"] };
  const request: Request = { kind: "encode", picture, target, model, weights: absolute(options.weights) };
  return (await ask(request, onProgress)) as Coded & { seconds: number };
}

let worker: Worker | undefined;
let next = 0;
const waiting = new Map<number, { done(result: unknown): void; fail(error: Error): void; progress?: Progress | undefined }>();

function ask(request: Request, progress?: Progress): Promise<unknown> {
  worker ??= started();
  const id = next++;
  return new Promise((done, fail) => {
    worker!.postMessage({ id, request });
    waiting.set(id, { done, fail, progress });
  });
}

function started(): Worker {
  const made = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  made.onmessage = ({ data }: MessageEvent<Answer>) => {
    const asked = waiting.get(data.id);
    if (!asked) return;
    if ("progress" in data) return asked.progress?.(...data.progress);
    waiting.delete(data.id);
    if ("error" in data) asked.fail(revived(data.error.name, data.error.message));
    else asked.done(data.result);
  };
  made.onerror = (event) => {
    event.preventDefault();
    made.terminate();
    worker = undefined; // the next request starts another
    for (const { fail } of waiting.values()) fail(new RdcError("the codec's worker could not run: open the page again"));
    waiting.clear();
  };
  return made;
}

function absolute(source: Source): Source {
  return typeof source === "string" ? new URL(source, document.baseURI).href : source;
}
