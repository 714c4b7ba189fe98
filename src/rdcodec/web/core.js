/** The core (native/wasm.cpp) and its memory. After a trap its memory is given up, and the next call begins anew. */
import { BadInput, NeedsModel, RdcError } from "./errors.js";
export const KEPT_BYTES = 256 << 20; // of memory, between two pictures
/** A model in the core. */
export class Core {
    module;
    tag;
    arrays;
    live;
    /** arrays: what the core builds the model of, packed. */
    constructor(module, tag, arrays) {
        this.module = module;
        this.tag = tag;
        this.arrays = arrays;
    }
    /** Build the model, so that what follows takes no longer than it must. */
    warm() {
        this.live ??= this.start();
    }
    /** Run a piece of work; what it says when it traps becomes an error by `otherwise`. */
    run(otherwise, work) {
        const { exports, model } = (this.live ??= this.start());
        try {
            return guarded(exports, otherwise, () => work(new Memory(exports), model));
        }
        catch (error) {
            this.live = undefined;
            throw error;
        }
        finally {
            if (exports.memory.buffer.byteLength > KEPT_BYTES)
                this.live = undefined;
        }
    }
    start() {
        const exports = new WebAssembly.Instance(this.module).exports;
        exports._initialize();
        const misfit = () => new NeedsModel(`weights ${this.tag} do not fit their model: fetch them again`);
        const memory = new Memory(exports);
        const model = guarded(exports, misfit, () => memory.with(this.arrays(), exports.rdc_model));
        return { exports, model };
    }
}
/** What is wrong with a coded stream, or how little memory there is. */
export function damaged(why) {
    return new BadInput(`the coded stream is damaged (${why}): get the file again from its source`);
}
function guarded(exports, otherwise, work) {
    try {
        return work();
    }
    catch (error) {
        if (error instanceof RdcError)
            throw error;
        const why = wordsAt(exports, exports.rdc_error());
        if (why === "out of memory" || error instanceof RangeError)
            throw new RdcError("not enough memory for this picture: close other pages, or make it smaller");
        throw otherwise(why || "it cannot be computed");
    }
}
function wordsAt({ memory }, address) {
    const bytes = new Uint8Array(memory.buffer, address, 256);
    return String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0)));
}
/** Bytes in and out of the core. Every view is taken anew: memory that grows has a new buffer. */
export class Memory {
    exports;
    constructor(exports) {
        this.exports = exports;
    }
    /** Call a function of the core with arrays, which it does not keep. */
    with(packed, call) {
        const address = this.put(packed);
        const result = call(address, packed.length);
        this.exports.rdc_free(address);
        return result;
    }
    /** Numbers, into memory of the core, for rdc_free. */
    put(array) {
        const address = this.exports.rdc_allocate(array.byteLength);
        this.bytes(address, array.byteLength).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
        return address;
    }
    bytes(address, count) {
        return new Uint8Array(this.exports.memory.buffer, address, count);
    }
}
