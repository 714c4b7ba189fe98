/** The worker: codecs by tag, one request after the other. */
import { readAlpha, writeAlpha } from "./alpha.js";
import { Codec, type Coded, type Picture, type Target } from "./codec.js";
import { ALPHA, readHeader, sectionOf, type Section } from "./container.js";
import { NeedsModel, RdcError } from "./errors.js";
import { Helpers } from "./strips.js";
import { findWeights, tagOf, type Progress, type Source } from "./store.js";

export type Request =
  | { kind: "decode"; data: Uint8Array; weights: Source; maxPixels: number }
  | { kind: "encode"; picture: Picture; target: Target; model: string; weights: Source };
export type Answer =
  | { id: number; progress: [number, number] }
  | { id: number; result: (Picture | Coded) & { seconds: number } } // of work, without what was fetched
  | { id: number; error: { name: string; message: string } };

const codecs = new Map<string, Codec>();
const helpers = new Helpers();
const scope = self as unknown as { onmessage: unknown; postMessage(answer: Answer, transfer?: Transferable[]): void };
let core: Promise<WebAssembly.Module> | undefined;
let last: Promise<void> = Promise.resolve();

scope.onmessage = ({ data: { id, request } }: MessageEvent<{ id: number; request: Request }>) => {
  last = last.then(() => answer(id, request));
};

async function answer(id: number, request: Request): Promise<void> {
  const progress: Progress = (loaded, total) => scope.postMessage({ id, progress: [loaded, total] });
  try {
    const result = request.kind === "decode" ? await decode(request, progress) : await encode(request, progress);
    scope.postMessage({ id, result }, [result.data.buffer as ArrayBuffer]);
  } catch (error) {
    const told = error instanceof RdcError ? error : new RdcError(`something failed in the page (${error})`);
    scope.postMessage({ id, error: { name: told.name, message: told.message } });
  }
}

async function decode({ data, weights, maxPixels }: Request & { kind: "decode" }, progress: Progress) {
  const header = readHeader(data, maxPixels);
  const codec = await codecOf(header.tag, weights, false, progress);
  const start = performance.now();
  const picture = await codec.decodeWith(helpers, data, maxPixels);
  const alpha = sectionOf(header, ALPHA);
  if (alpha) await readAlpha(alpha, picture.width, picture.height, picture.data);
  return { ...picture, seconds: since(start) };
}

async function encode({ picture, target, model, weights }: Request & { kind: "encode" }, progress: Progress) {
  const tag = typeof weights === "string" ? tagOf(model) : model;
  const codec = await codecOf(tag, weights, true, progress);
  const start = performance.now();
  const alpha = await writeAlpha(picture.data, picture.width, picture.height);
  const sections: Section[] = alpha ? [{ id: ALPHA, payload: alpha }] : [];
  return { ...codec.encode(picture, target, sections), seconds: since(start) };
}

async function codecOf(tag: string, source: Source, encode: boolean, progress: Progress): Promise<Codec> {
  const key = typeof source === "string" ? `${source} ${tag}` : undefined;
  const kept = key && codecs.get(key);
  if (kept && (kept.weights.encodes || !encode)) return kept;
  const codec = new Codec(await compiled(), await findWeights(tag, source, encode, progress));
  codec.core.warm();
  if (key) codecs.set(key, codec);
  return codec;
}

function since(start: number): number {
  return (performance.now() - start) / 1000;
}

function compiled(): Promise<WebAssembly.Module> {
  const failed = () => {
    core = undefined;
    throw new NeedsModel("the codec's core could not be loaded: open the page again");
  };
  return (core ??= fetch(new URL("./rdc.wasm", import.meta.url))
    .then((response) => response.arrayBuffer())
    .then((bytes) => WebAssembly.compile(bytes))
    .catch(failed));
}
