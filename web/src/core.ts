/** The core (native/wasm.cpp) and its memory. After a trap its memory is given up, and the next call begins anew. */
import { BadInput, NeedsModel, RdcError } from "./errors.js";

interface Exports {
  memory: WebAssembly.Memory;
  _initialize(): void;
  rdc_allocate(bytes: number): number;
  rdc_free(address: number): void;
  rdc_error(): number;
  rdc_model(arrays: number, bytes: number): number;
  rdc_decode(model: number, height: number, width: number, arrays: number, bytes: number): number;
  rdc_latents(model: number, height: number, width: number, arrays: number, bytes: number): number;
  rdc_draw(
    model: number, y: number, from: number, to: number, first: number, end: number,
    height: number, width: number, arrays: number, bytes: number,
  ): number;
  rdc_analyse(model: number, image: number, height: number, width: number): number;
  rdc_correct(model: number, y: number, ofY: number, positions: number, lacking: number, count: number): void;
  rdc_encode(
    model: number, analysed: number, y: number, height: number, width: number, arrays: number, bytes: number,
  ): number;
}

export const KEPT_BYTES = 256 << 20; // of memory, between two pictures

/** A model in the core. */
export class Core {
  private live: { exports: Exports; model: number } | undefined;

  /** arrays: what the core builds the model of, packed. */
  constructor(readonly module: WebAssembly.Module, readonly tag: string, readonly arrays: () => Uint8Array) {}

  /** Build the model, so that what follows takes no longer than it must. */
  warm(): void {
    this.live ??= this.start();
  }

  /** Run a piece of work; what it says when it traps becomes an error by `otherwise`. */
  run<T>(otherwise: (why: string) => RdcError, work: (memory: Memory, model: number) => T): T {
    const { exports, model } = (this.live ??= this.start());
    try {
      return guarded(exports, otherwise, () => work(new Memory(exports), model));
    } catch (error) {
      this.live = undefined;
      throw error;
    } finally {
      if (exports.memory.buffer.byteLength > KEPT_BYTES) this.live = undefined;
    }
  }

  private start(): { exports: Exports; model: number } {
    const exports = new WebAssembly.Instance(this.module).exports as unknown as Exports;
    exports._initialize();
    const misfit = () => new NeedsModel(`weights ${this.tag} do not fit their model: fetch them again`);
    const memory = new Memory(exports);
    const model = guarded(exports, misfit, () => memory.with(this.arrays(), exports.rdc_model));
    return { exports, model };
  }
}

/** What is wrong with a coded stream, or how little memory there is. */
export function damaged(why: string): RdcError {
  return new BadInput(`the coded stream is damaged (${why}): get the file again from its source`);
}

function guarded<T>(exports: Exports, otherwise: (why: string) => RdcError, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof RdcError) throw error;
    const why = wordsAt(exports, exports.rdc_error());
    if (why === "out of memory" || error instanceof RangeError)
      throw new RdcError("not enough memory for this picture: close other pages, or make it smaller");
    throw otherwise(why || "it cannot be computed");
  }
}

function wordsAt({ memory }: Exports, address: number): string {
  const bytes = new Uint8Array(memory.buffer, address, 256);
  return String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0)));
}

/** Bytes in and out of the core. Every view is taken anew: memory that grows has a new buffer. */
export class Memory {
  constructor(readonly exports: Exports) {}

  /** Call a function of the core with arrays, which it does not keep. */
  with(packed: Uint8Array, call: (address: number, bytes: number) => number): number {
    const address = this.put(packed);
    const result = call(address, packed.length);
    this.exports.rdc_free(address);
    return result;
  }

  /** Numbers, into memory of the core, for rdc_free. */
  put(array: ArrayBufferView): number {
    const address = this.exports.rdc_allocate(array.byteLength);
    this.bytes(address, array.byteLength).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    return address;
  }

  bytes(address: number, count: number): Uint8Array {
    return new Uint8Array(this.exports.memory.buffer, address, count);
  }
}
