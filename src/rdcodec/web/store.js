/** Weights from where a page keeps them: fetched once, checked, and kept in the browser's cache. */
import { NeedsModel } from "./errors.js";
import { RELEASED } from "./released.js";
import { sha256, Weights } from "./weights.js";
const CACHE = "rdcodec-weights-1";
/** "I" is its newest tag, "I.3" itself. NeedsModel for others. */
export function tagOf(model) {
    if (Object.hasOwn(RELEASED, model))
        return model;
    const number = (tag) => Number(tag.split(".").at(-1));
    const tags = Object.keys(RELEASED).filter((tag) => tag.replace(/\.\d+$/, "") === model);
    const newest = tags.sort((a, b) => number(b) - number(a))[0];
    if (!newest)
        throw new NeedsModel(`no weights ${model} are known to this page: it knows ${Object.keys(RELEASED).join(", ")}`);
    return newest;
}
/** Weights of a tag; with what encodes only where that is asked for. */
export async function findWeights(tag, source, encode, progress) {
    if (typeof source !== "string")
        return Weights.read(source);
    const parts = RELEASED[tagOf(tag)];
    if (encode && !parts.encoder)
        throw new NeedsModel(`weights ${tag} are kept to decode files: take newer ones to encode`);
    const names = encode ? ["decoder", "encoder"] : ["decoder"];
    const total = names.reduce((sum, name) => sum + parts[name].bytes, 0);
    const files = [];
    let before = 0;
    for (const name of names) {
        const url = new URL(`${tag}.${name}.safetensors`, source.endsWith("/") ? source : `${source}/`).href;
        const { bytes, sha256: hash } = parts[name];
        files.push(await fetchChecked(url, hash, bytes, (loaded) => progress(before + loaded, total)));
        before += bytes;
    }
    return Weights.read(...files);
}
async function fetchChecked(url, hash, size, progress) {
    const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
    const kept = await cache?.match(url);
    if (kept) {
        const bytes = new Uint8Array(await kept.arrayBuffer());
        if ((await sha256(bytes)) === hash)
            return bytes;
        await cache.delete(url);
    }
    const bytes = await download(url, size, progress);
    if ((await sha256(bytes)) !== hash)
        throw new NeedsModel(`${url} are not the weights that were released`);
    await cache?.put(url, new Response(bytes)).catch(() => undefined); // without room for them, they are fetched again
    return bytes;
}
async function download(url, size, progress) {
    const failed = (why) => new NeedsModel(`weights could not be fetched (${why}): ${url}`);
    const response = await fetch(url).catch(() => undefined);
    if (!response?.ok || !response.body)
        throw failed(response?.status ?? "no connection");
    const all = new Uint8Array(size);
    const reader = response.body.getReader();
    let loaded = 0;
    const next = () => reader.read().catch(() => Promise.reject(failed("the connection broke off")));
    for (let part = await next(); !part.done; part = await next()) {
        if (loaded + part.value.length > size) {
            void reader.cancel();
            throw new NeedsModel(`${url} are not the weights that were released`);
        }
        all.set(part.value, loaded);
        progress((loaded += part.value.length));
    }
    return all.subarray(0, loaded);
}
