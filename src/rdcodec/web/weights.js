/** Weights files (safetensors): their arrays, the hashes that files name them by, and what depends on the quality. */
import { hex, joined } from "./container.js";
import { NeedsModel } from "./errors.js";
const ANCHORS = 8; // qualities at which what follows them is learned
const LEVELS = 128, LEVEL_ONE = 16, LEVEL_REACH = 1 << 14;
const TOTAL = 1 << 16, BUCKETS = 256;
const ERROR_GROWTH = 5, LMBDA_0 = 0.00023, LMBDA_100 = 0.065; // codec/pipeline.py, models/scale.py
const SIZES = { F32: 4, BF16: 2, I32: 4, I16: 2, I8: 1, U16: 2 };
const WORDS = { I32: "int32", I16: "int16", I8: "int8" };
/** The arrays of weights of one tag, from one file or from that of the decoder and that of the encoder. */
export class Weights {
    tag;
    shape;
    tensors;
    hashes;
    tables;
    constructor(tag, shape, tensors, hashes, tables) {
        this.tag = tag;
        this.shape = shape;
        this.tensors = tensors;
        this.hashes = hashes;
        this.tables = tables;
    }
    /** NeedsModel for what is no weights file, or weights of a model that the core does not run. */
    static async read(...files) {
        const parts = files.map(readTensors);
        const { tag, config } = parts[0].metadata;
        if (!tag || !config || parts.some((part) => part.metadata["tag"] !== tag))
            throw new NeedsModel("weights without a tag, or files of several tags: fetch them again");
        const tensors = new Map(parts.flatMap((part) => [...part.tensors]));
        const tables = new Tables(tensors);
        const exact = [...tensors].filter(([name]) => name.startsWith("exact."));
        const decoding = [...tensors].filter(([name]) => /^(synthesis|log_gain|pixels)\./.test(name));
        const hashes = {
            tables: await tables.hash(),
            entropy: await hashOf(exact.map(([name, tensor]) => [name.slice("exact.".length), tensor])),
            synthesis: await hashOf(decoding.map(([name, tensor]) => [name, asBytes(tensor)])),
        };
        return new Weights(tag, shapeOf(tag, config), tensors, hashes, tables);
    }
    get encodes() {
        return this.tensors.has("analysis.shortcut.weight");
    }
    /** Rows of latents on either side that a row of the picture sees. */
    get reach() {
        return this.shape.deepBlocks + Math.ceil(this.shape.wideBlocks / 2);
    }
    /** What the core builds a model of, packed. */
    arrays() {
        const { latents, hyper, features, hidden, wide, wideBlocks, deep, deepBlocks, ofAnalysis, passes } = this.shape;
        const { edges, edgeStart, radius, bucket, savings, skipBelow } = this.tables;
        const sizes = [latents, hyper, features, hidden, wide, wideBlocks, deep, deepBlocks];
        const shape = [...sizes, radius.length, skipBelow, ...ofAnalysis, passes];
        const named = new Named();
        named.put("shape", Int32Array.from(shape));
        for (const [name, array] of Object.entries({ edges, edge_start: edgeStart, radius, bucket, savings }))
            named.put(name, array);
        for (const [name, tensor] of this.tensors) {
            const place = name.replace(/^entropy\.(?=hyper_analysis\.)/, "").replace(/^(?=log_gain\.)/, "synthesis.");
            if (/^(exact|pixels)\./.test(place))
                named.put(place, tensor.bytes, tensor.shape);
            if (/^(synthesis|analysis|hyper_analysis)\./.test(place))
                named.put(place, floats(tensor), tensor.shape);
        }
        return named.packed();
    }
    /** Table rows of the channels of z, and offsets of the levels of y: integers, the same everywhere. */
    rows(tenths) {
        const { hyper, latents } = this.shape;
        const prior = this.levels("exact.prior_level", hyper, tenths);
        const offset = this.levels("exact.level", latents, tenths).map((level) => level + LEVEL_ONE / 2);
        const hyperRows = prior.map((level) => Math.min(Math.max((level + LEVEL_ONE / 2) >> 4, 0), LEVELS - 1));
        return { hyperRows: Uint8Array.from(hyperRows), offset };
    }
    /** Quantisation steps per unit of the latents. */
    gain(tenths) {
        return this.atQuality("log_gain.values", this.shape.latents, tenths).map(Math.exp);
    }
    /** Factors of the channels of the synthesis' deep part. */
    tint(tenths) {
        return this.atQuality("synthesis.tint.values", this.shape.deep, tenths).map((value) => value + 1);
    }
    /** What is taken off z. */
    hyperShift(tenths) {
        return this.atQuality("entropy.hyper_shift.values", this.shape.hyper, tenths);
    }
    /** Bits that a squared quantisation step of each channel is worth to an encoder. */
    worth(tenths) {
        const lmbda = LMBDA_0 * Math.exp((tenths / 1000) * Math.log(LMBDA_100 / LMBDA_0));
        return this.gain(tenths).map((gain) => (ERROR_GROWTH * lmbda) / 3 / gain ** 2);
    }
    levels(name, channels, tenths) {
        const tensor = this.anchors(name, "I32", channels);
        const rows = new Int32Array(aligned(tensor.bytes)).map((v) => Math.min(Math.max(v, -LEVEL_REACH), LEVEL_REACH));
        const position = tenths * (ANCHORS - 1), low = Math.min(Math.floor(position / 1000), ANCHORS - 2);
        const part = position - 1000 * low;
        return Int32Array.from({ length: channels }, (_, c) => Math.floor((rows[low * channels + c] * (1000 - part) + rows[(low + 1) * channels + c] * part) / 1000));
    }
    atQuality(name, channels, tenths) {
        const rows = floats(this.anchors(name, "F32", channels));
        const position = (tenths * (ANCHORS - 1)) / 1000, low = Math.min(Math.floor(position), ANCHORS - 2);
        const part = position - low;
        return Float32Array.from({ length: channels }, (_, c) => rows[low * channels + c] * (1 - part) + rows[(low + 1) * channels + c] * part);
    }
    anchors(name, type, channels) {
        const tensor = this.tensors.get(name);
        if (tensor?.type !== type || String(tensor.shape) !== `${ANCHORS},${channels}`)
            throw new NeedsModel(`${name} of the weights ${this.tag} is missing or altered: fetch them again`);
        return tensor;
    }
}
/** The integer tables that symbols are coded with, as exact/tables.py. */
class Tables {
    radius;
    skipBelow;
    edges; // the rows, each with its closing 65536
    edgeStart;
    bucket; // (rows, 256): the symbol of the first slot of each bucket
    savings; // bits that the next symbol towards 0 costs less; only encoders use them
    cdf;
    constructor(tensors) {
        const array = (name, type) => {
            const tensor = tensors.get(`tables.${name}`);
            require(tensor?.type === type && tensor.shape.length === 1);
            return aligned(tensor.bytes);
        };
        this.cdf = new Uint16Array(array("cdf", "U16"));
        this.radius = new Int32Array(array("radius", "I32"));
        this.skipBelow = new Int32Array(array("skip_below", "I32"))[0];
        require(this.radius.length === LEVELS && this.skipBelow >= 0 && this.skipBelow <= LEVELS);
        require(this.radius.every((radius) => radius >= 0 && radius < TOTAL / 2));
        require(this.cdf.length === this.radius.reduce((sum, radius) => sum + 2 * radius + 2, 0));
        this.edges = new Int32Array(this.cdf.length + LEVELS);
        this.edgeStart = new Int32Array(LEVELS);
        this.bucket = new Uint16Array(LEVELS * BUCKETS);
        this.savings = new Float32Array(this.edges.length);
        let from = 0, to = 0;
        this.radius.forEach((radius, row) => {
            this.edgeStart[row] = to;
            this.edges.set(this.cdf.subarray(from, from + 2 * radius + 2), to);
            this.edges[to + 2 * radius + 2] = TOTAL;
            this.fill(row, this.edges.subarray(to, to + 2 * radius + 3));
            from += 2 * radius + 2;
            to += 2 * radius + 3;
        });
    }
    fill(row, edges) {
        const radius = this.radius[row], start = this.edgeStart[row];
        require(edges[0] === 0 && edges.every((edge, place) => place === 0 || edge > edges[place - 1]));
        for (let bucket = 0, symbol = 0; bucket < BUCKETS; bucket++) {
            while (edges[symbol + 1] <= (bucket * TOTAL) / BUCKETS)
                symbol++;
            this.bucket[row * BUCKETS + bucket] = symbol;
        }
        const bits = (column) => -Math.log2(edges[column + 1] - edges[column]);
        for (let column = 0; column <= 2 * radius; column++)
            if (column !== radius)
                this.savings[start + column] = bits(column) - bits(column + (column < radius ? 1 : -1));
    }
    hash() {
        return shortHash([bytesOf(Int32Array.of(LEVELS, this.skipBelow)), bytesOf(this.radius), bytesOf(this.cdf)]);
    }
}
/** Arrays by name, as the core reads them (native/named.h). */
export class Named {
    parts = [];
    count = 0;
    put(name, array, shape) {
        const bytes = bytesOf(array), sides = shape ?? [bytes.length];
        const told = new TextEncoder().encode(name);
        this.parts.push(bytesOf(Uint32Array.of(told.length)), told);
        this.parts.push(bytesOf(Uint32Array.of(sides.length, ...sides, bytes.length)), bytes);
        this.count++;
        return this;
    }
    packed() {
        return joined([bytesOf(Uint32Array.of(this.count)), ...this.parts]);
    }
}
/** The arrays of a safetensors file. NeedsModel for anything else. */
export function readTensors(file) {
    try {
        const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
        const start = 8 + Number(view.getBigUint64(0, true));
        const header = JSON.parse(new TextDecoder().decode(file.subarray(8, start)));
        const { __metadata__: metadata = {}, ...entries } = header;
        const tensors = new Map();
        for (const [name, { dtype, shape, data_offsets }] of Object.entries(entries)) {
            const bytes = file.subarray(start + data_offsets[0], start + data_offsets[1]);
            const count = shape.reduce((product, side) => product * side, 1);
            if (bytes.length !== count * SIZES[dtype])
                throw new RangeError(name);
            tensors.set(name, { type: dtype, shape, bytes });
        }
        return { metadata, tensors };
    }
    catch {
        throw new NeedsModel("damaged weights, or not a weights file: fetch them again");
    }
}
function shapeOf(tag, config) {
    const { latent_channels: latents, lmbda, synthesis, analysis, entropy } = JSON.parse(config);
    const light = synthesis?.kind === "light" && analysis?.kind === "light" && entropy?.kind === "checkerboard";
    if (!light || lmbda !== null)
        throw new NeedsModel(`weights ${tag} are of a model that does not run in a page: take H, I or J`);
    const { hyper_channels: hyper, features, hidden, passes = 2 } = entropy;
    const [wide, wideBlocks, deep, deepBlocks] = widths(synthesis);
    return { latents, hyper, features, hidden, wide, wideBlocks, deep, deepBlocks, ofAnalysis: widths(analysis), passes };
}
function widths({ stride8, stride16 }) {
    return [stride8.width, stride8.blocks, stride16.width, stride16.blocks];
}
/** First 4 bytes of the SHA-256 over "name type shape" lines, each followed by the bytes of the array. */
function hashOf(arrays) {
    const sorted = arrays.sort(([a], [b]) => (a < b ? -1 : 1));
    return shortHash(sorted.flatMap(([name, { type, shape, bytes }]) => {
        const sides = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
        return [new TextEncoder().encode(`${name} ${WORDS[type] ?? type} (${sides})\n`), bytes];
    }));
}
function asBytes({ type, shape, bytes }) {
    return { type: "uint8", shape: [...shape.slice(0, -1), shape.at(-1) * SIZES[type]], bytes };
}
async function shortHash(parts) {
    return (await sha256(joined(parts))).slice(0, 8);
}
/** Hexadecimal SHA-256. NeedsModel where the page is not served safely enough for the browser to compute it. */
export async function sha256(bytes) {
    if (!globalThis.crypto?.subtle)
        throw new NeedsModel("the browser checks weights on pages from https or localhost only: open this page from there");
    return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}
function floats({ type, bytes }) {
    if (type === "F32")
        return new Float32Array(aligned(bytes));
    const halves = new Uint16Array(aligned(bytes)); // bfloat16: the upper half of a float32
    return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
}
/** A copy that may be read as wider numbers. */
function aligned(bytes) {
    return bytes.slice().buffer;
}
function bytesOf(array) {
    return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
function require(holds) {
    if (!holds)
        throw new NeedsModel("damaged entropy tables: fetch the model's weights again");
}
