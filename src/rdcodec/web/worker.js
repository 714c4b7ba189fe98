/** The worker: codecs by tag, one request after the other. */
import { readAlpha, writeAlpha } from "./alpha.js";
import { Codec } from "./codec.js";
import { ALPHA, readHeader, sectionOf } from "./container.js";
import { NeedsModel, RdcError } from "./errors.js";
import { Helpers } from "./strips.js";
import { findWeights, tagOf } from "./store.js";
const codecs = new Map();
const helpers = new Helpers();
const scope = self;
let core;
let last = Promise.resolve();
scope.onmessage = ({ data: { id, request } }) => {
    last = last.then(() => answer(id, request));
};
async function answer(id, request) {
    const progress = (loaded, total) => scope.postMessage({ id, progress: [loaded, total] });
    try {
        const result = request.kind === "decode" ? await decode(request, progress) : await encode(request, progress);
        scope.postMessage({ id, result }, [result.data.buffer]);
    }
    catch (error) {
        const told = error instanceof RdcError ? error : new RdcError(`something failed in the page (${error})`);
        scope.postMessage({ id, error: { name: told.name, message: told.message } });
    }
}
async function decode({ data, weights, maxPixels }, progress) {
    const header = readHeader(data, maxPixels);
    const codec = await codecOf(header.tag, weights, false, progress);
    const start = performance.now();
    const picture = await codec.decodeWith(helpers, data, maxPixels);
    const alpha = sectionOf(header, ALPHA);
    if (alpha)
        await readAlpha(alpha, picture.width, picture.height, picture.data);
    return { ...picture, seconds: since(start) };
}
async function encode({ picture, target, model, weights }, progress) {
    const tag = typeof weights === "string" ? tagOf(model) : model;
    const codec = await codecOf(tag, weights, true, progress);
    const start = performance.now();
    const alpha = await writeAlpha(picture.data, picture.width, picture.height);
    const sections = alpha ? [{ id: ALPHA, payload: alpha }] : [];
    return { ...codec.encode(picture, target, sections), seconds: since(start) };
}
async function codecOf(tag, source, encode, progress) {
    const key = typeof source === "string" ? `${source} ${tag}` : undefined;
    const kept = key && codecs.get(key);
    if (kept && (kept.weights.encodes || !encode))
        return kept;
    const codec = new Codec(await compiled(), await findWeights(tag, source, encode, progress));
    codec.core.warm();
    if (key)
        codecs.set(key, codec);
    return codec;
}
function since(start) {
    return (performance.now() - start) / 1000;
}
function compiled() {
    const failed = () => {
        core = undefined;
        throw new NeedsModel("the codec's core could not be loaded: open the page again");
    };
    return (core ??= fetch(new URL("./rdc.wasm", import.meta.url))
        .then((response) => response.arrayBuffer())
        .then((bytes) => WebAssembly.compile(bytes))
        .catch(failed));
}
