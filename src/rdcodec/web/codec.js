/** Pictures to `.rdc` files and back, in this thread. `index.ts` has the same in a worker. */
import * as container from "./container.js";
import { checkPixels, pack, unpack } from "./container.js";
import { Core, damaged } from "./core.js";
import { BadInput, NeedsModel, RdcError } from "./errors.js";
import * as flat from "./flat.js";
import { divided, draw, opaque } from "./strips.js";
import { Named } from "./weights.js";
export const DEFAULT_QUALITY = 50;
const FOR_FLATS = 0.97; // of a size that is asked for, what is taken before flat areas are corrected
/** A model with its weights. */
export class Codec {
    weights;
    core;
    constructor(module, weights) {
        this.weights = weights;
        this.core = new Core(module, weights.tag, () => weights.arrays());
    }
    /** The colours of a file, opaque. BadInput for damage, or more than `maxPixels`; NeedsModel for other weights. */
    decode(data, maxPixels = container.MAX_PIXELS) {
        const { header, stream } = unpack(data, maxPixels);
        this.checkWeights(header);
        const { width, height } = header;
        return this.core.run(damaged, (memory, model) => {
            const address = this.decoded(memory, model, header, stream);
            const picture = { width, height, data: opaque(memory.bytes(address, 3 * width * height)) };
            memory.exports.rdc_free(address);
            return picture;
        });
    }
    /** Address of its RGB samples. */
    decoded(memory, model, header, stream) {
        const arrays = this.drawing(header.tenths, this.symbols(header, stream)).packed();
        return memory.with(arrays, (address, bytes) => memory.exports.rdc_decode(model, header.height, header.width, address, bytes));
    }
    /** The same picture, bit for bit, of which helpers draw strips. */
    async decodeWith(helpers, data, maxPixels = container.MAX_PIXELS) {
        const { header, stream } = unpack(data, maxPixels);
        this.checkWeights(header);
        const { width, height } = header;
        const places = divided(Math.ceil(height / 16), helpers.count + 1);
        if (places.length === 1)
            return this.decode(data, maxPixels);
        helpers.take(this.core, places.length - 1);
        const [mine, ...theirs] = this.strips(header, stream, places);
        const drawn = theirs.map((strip, helper) => helpers.draw(helper, strip));
        const parts = [draw(this.core, mine), ...(await Promise.all(drawn))];
        if (!parts.every((part) => part))
            return this.decode(data, maxPixels); // without them, then
        const whole = new Uint8ClampedArray(4 * width * height);
        parts.forEach((part, k) => whole.set(part, 4 * width * 16 * places[k][0]));
        return { width, height, data: whole };
    }
    /** What is drawn of a file, in strips. */
    strips(header, stream, places) {
        const { width, height, tenths } = header, { reach, shape } = this.weights;
        const rows = Math.ceil(height / 16), length = Math.ceil(width / 16) * shape.latents;
        const arrays = this.drawing(tenths).packed();
        return this.core.run(damaged, (memory, model) => {
            const decode = (address, bytes) => memory.exports.rdc_latents(model, height, width, address, bytes);
            const address = memory.with(this.symbols(header, stream).packed(), decode);
            const all = new Float32Array(memory.exports.memory.buffer, address, rows * length);
            const strips = places.map(([first, end]) => {
                const from = Math.max(0, first - reach), to = Math.min(rows, end + reach);
                return { width, height, first, end, from, to, y: all.slice(from * length, to * length), arrays };
            });
            memory.exports.rdc_free(address);
            return strips;
        });
    }
    symbols({ tenths, symbolsCrc }, stream) {
        const { hyperRows, offset } = this.weights.rows(tenths);
        return new Named()
            .put("stream", stream)
            .put("crc", Uint32Array.of(symbolsCrc))
            .put("hyper_rows", hyperRows)
            .put("offset", offset);
    }
    drawing(tenths, arrays = new Named()) {
        const unit = this.weights.gain(tenths).map((gain) => 1 / gain);
        return arrays.put("unit", unit).put("tint", this.weights.tint(tenths)).put("tenths", Int32Array.of(tenths));
    }
    /** The bytes of a file. Alpha is not looked at: `sections` hold it. */
    encode(picture, target = {}, sections = []) {
        const { width, height } = picture;
        checkPicture(picture);
        checkTarget(target);
        if (!this.weights.encodes)
            throw new NeedsModel(`weights ${this.weights.tag} are here for decoding only`);
        const failed = (why) => new RdcError(`the picture could not be coded (${why})`);
        return this.core.run(failed, (memory, model) => {
            const image = memory.exports.rdc_allocate(3 * width * height);
            dropAlpha(picture.data, memory.bytes(image, 3 * width * height));
            const y = memory.exports.rdc_analyse(model, image, height, width);
            memory.exports.rdc_free(image);
            const flats = flat.find({ ...picture, perPixel: 4 });
            const code = (corrected, tenths) => ({
                data: this.coded(memory, model, y, corrected, picture, tenths, sections),
                quality: tenths / 10,
            });
            const at = (tenths) => code(y, tenths);
            const { bytes = Infinity, quality = DEFAULT_QUALITY } = target;
            try {
                const coded = bytes < Infinity ? largestWithin(bytes, at, flats && FOR_FLATS) : at(Math.round(10 * quality));
                return flats ? this.withFlats(memory, model, y, flats, coded, bytes, code) : coded;
            }
            finally {
                memory.exports.rdc_free(y);
            }
        });
    }
    /** Coded again until its flat areas are as near to their colours as they get in so many bytes. y: where latents are. */
    withFlats(memory, model, y, flats, first, most, code) {
        const { rdc_allocate, rdc_correct, rdc_free } = memory.exports;
        const { width, height, tenths } = unpack(first.data, Infinity).header;
        const count = Math.ceil(width / 16) * Math.ceil(height / 16), bytes = 4 * count * this.weights.shape.latents;
        const corrected = rdc_allocate(bytes);
        memory.bytes(corrected, bytes).set(memory.bytes(y, bytes));
        let image = 0;
        const decoded = () => ({ width, height, perPixel: 3, data: memory.bytes(image, 3 * width * height) });
        const decode = ({ data }) => {
            rdc_free(image);
            const { header, stream } = unpack(data, Infinity);
            image = this.decoded(memory, model, header, stream);
            return flat.off(flats, decoded());
        };
        let best = first, least = decode(first), rounds = 0, waited = 0;
        while (!flat.isEnough(least, rounds, waited, tenths)) {
            for (const [places, lacking] of flat.lacking(flats, decoded)) {
                const at = memory.put(places), samples = memory.put(lacking);
                rdc_correct(model, corrected, count, at, samples, places.length);
                rdc_free(at);
                rdc_free(samples);
            }
            const coded = code(corrected, tenths), off = decode(coded);
            rounds++;
            waited++;
            if (coded.data.length <= most && flat.isLess(off, least))
                [best, least, waited] = [coded, off, 0];
        }
        rdc_free(image);
        rdc_free(corrected);
        return best;
    }
    coded(memory, model, analysed, y, { width, height }, tenths, sections) {
        const { hyperRows, offset } = this.weights.rows(tenths);
        const arrays = new Named()
            .put("gain", this.weights.gain(tenths))
            .put("shift", this.weights.hyperShift(tenths))
            .put("hyper_rows", hyperRows)
            .put("offset", offset)
            .put("worth", this.weights.worth(tenths));
        const encode = (address, bytes) => memory.exports.rdc_encode(model, analysed, y, height, width, address, bytes);
        const address = memory.with(arrays.packed(), encode);
        const head = memory.bytes(address, 8).slice();
        const [length, symbolsCrc] = new Uint32Array(head.buffer);
        const stream = memory.bytes(address + 8, length).slice();
        memory.exports.rdc_free(address);
        const { tables, entropy, synthesis } = this.weights.hashes;
        const hashes = { tablesHash: tables, entropyHash: entropy, synthesisHash: synthesis };
        return pack({ tag: this.weights.tag, width, height, tenths, ...hashes, symbolsCrc, sections }, stream);
    }
    checkWeights(header) {
        const { tables, entropy, synthesis } = this.weights.hashes;
        if (header.tablesHash !== tables || header.entropyHash !== entropy || header.synthesisHash !== synthesis)
            throw new NeedsModel(`the file was made with other weights ${header.tag} than those here`);
        if (header.tenths === container.SINGLE_RATE)
            throw new BadInput(`no quality in the file, but rates in ${header.tag}: get the file again from its source`);
    }
}
/** The best of the coded pictures that take no more than a share of so many bytes. Sizes grow with quality, nearly always. */
function largestWithin(bytes, at, share = 1) {
    let best = at(0);
    if (best.data.length > bytes)
        throw new RdcError(`no file of ${bytes} bytes: the smallest of this picture has ${best.data.length}`);
    for (let low = 0, high = 1000; low < high;) {
        const middle = Math.ceil((low + high) / 2);
        const coded = at(middle);
        if (coded.data.length > share * bytes)
            high = middle - 1;
        else
            [low, best] = [middle, coded];
    }
    return best;
}
function checkPicture({ width, height, data }) {
    const whole = [width, height].every((side) => Number.isInteger(side) && side >= 1 && side <= container.MAX_SIDE);
    if (!whole || data.length !== 4 * width * height)
        throw new RdcError(`a picture of ${width} × ${height} pixels with ${data.length} samples: it needs four a pixel`);
    checkPixels(width, height, Math.max(container.MAX_PIXELS, width * height));
}
function checkTarget({ quality, bytes }) {
    if (quality !== undefined && !(quality >= 0 && quality <= 100))
        throw new RdcError(`quality ${quality} is no number from 0 to 100`);
    if (bytes !== undefined && !(bytes > 0))
        throw new RdcError(`${bytes} bytes are no size of a file`);
}
function dropAlpha(rgba, rgb) {
    for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
        rgb[to] = rgba[from];
        rgb[to + 1] = rgba[from + 1];
        rgb[to + 2] = rgba[from + 2];
    }
}
