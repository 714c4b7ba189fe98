/** Weights files (safetensors): their arrays, the hashes that files name them by, and what depends on the quality. */
import { hex, joined } from "./container.js";
import { NeedsModel } from "./errors.js";

export interface Tensor {
  type: string; // F32, BF16, I32, I16, I8 or U16
  shape: number[];
  bytes: Uint8Array; // little-endian
}

/** The numbers of the networks, as the core wants to be told them. */
export interface Shape {
  latents: number;
  hyper: number;
  features: number;
  hidden: number;
  wide: number;
  wideBlocks: number;
  deep: number;
  deepBlocks: number;
  ofAnalysis: number[]; // as the four before it, which are of the synthesis
  passes: number; // in which y is coded
}

const ANCHORS = 8; // qualities at which what follows them is learned
const LEVELS = 128, LEVEL_ONE = 16, LEVEL_REACH = 1 << 14;
const TOTAL = 1 << 16, BUCKETS = 256;
const ERROR_GROWTH = 5, LMBDA_0 = 0.00023, LMBDA_100 = 0.065; // codec/pipeline.py, models/scale.py
const SIZES: Record<string, number> = { F32: 4, BF16: 2, I32: 4, I16: 2, I8: 1, U16: 2 };
const WORDS: Record<string, string> = { I32: "int32", I16: "int16", I8: "int8" };

/** The arrays of weights of one tag, from one file or from that of the decoder and that of the encoder. */
export class Weights {
  private constructor(
    readonly tag: string,
    readonly shape: Shape,
    readonly tensors: ReadonlyMap<string, Tensor>,
    readonly hashes: { tables: string; entropy: string; synthesis: string },
    readonly tables: Tables,
  ) {}

  /** NeedsModel for what is no weights file, or weights of a model that the core does not run. */
  static async read(...files: Uint8Array[]): Promise<Weights> {
    const parts = files.map(readTensors);
    const { tag, config } = parts[0]!.metadata;
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

  get encodes(): boolean {
    return this.tensors.has("analysis.shortcut.weight");
  }

  /** Rows of latents on either side that a row of the picture sees. */
  get reach(): number {
    return this.shape.deepBlocks + Math.ceil(this.shape.wideBlocks / 2);
  }

  /** What the core builds a model of, packed. */
  arrays(): Uint8Array {
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
      if (/^(exact|pixels)\./.test(place)) named.put(place, tensor.bytes, tensor.shape);
      if (/^(synthesis|analysis|hyper_analysis)\./.test(place)) named.put(place, floats(tensor), tensor.shape);
    }
    return named.packed();
  }

  /** Table rows of the channels of z, and offsets of the levels of y: integers, the same everywhere. */
  rows(tenths: number): { hyperRows: Uint8Array; offset: Int32Array } {
    const { hyper, latents } = this.shape;
    const prior = this.levels("exact.prior_level", hyper, tenths);
    const offset = this.levels("exact.level", latents, tenths).map((level) => level + LEVEL_ONE / 2);
    const hyperRows = prior.map((level) => Math.min(Math.max((level + LEVEL_ONE / 2) >> 4, 0), LEVELS - 1));
    return { hyperRows: Uint8Array.from(hyperRows), offset };
  }

  /** Quantisation steps per unit of the latents. */
  gain(tenths: number): Float32Array {
    return this.atQuality("log_gain.values", this.shape.latents, tenths).map(Math.exp);
  }

  /** Factors of the channels of the synthesis' deep part. */
  tint(tenths: number): Float32Array {
    return this.atQuality("synthesis.tint.values", this.shape.deep, tenths).map((value) => value + 1);
  }

  /** What is taken off z. */
  hyperShift(tenths: number): Float32Array {
    return this.atQuality("entropy.hyper_shift.values", this.shape.hyper, tenths);
  }

  /** Bits that a squared quantisation step of each channel is worth to an encoder. */
  worth(tenths: number): Float32Array {
    const lmbda = LMBDA_0 * Math.exp((tenths / 1000) * Math.log(LMBDA_100 / LMBDA_0));
    return this.gain(tenths).map((gain) => (ERROR_GROWTH * lmbda) / 3 / gain ** 2);
  }

  private levels(name: string, channels: number, tenths: number): Int32Array {
    const tensor = this.anchors(name, "I32", channels);
    const rows = new Int32Array(aligned(tensor.bytes)).map((v) => Math.min(Math.max(v, -LEVEL_REACH), LEVEL_REACH));
    const position = tenths * (ANCHORS - 1), low = Math.min(Math.floor(position / 1000), ANCHORS - 2);
    const part = position - 1000 * low;
    return Int32Array.from({ length: channels }, (_, c) =>
      Math.floor((rows[low * channels + c]! * (1000 - part) + rows[(low + 1) * channels + c]! * part) / 1000),
    );
  }

  private atQuality(name: string, channels: number, tenths: number): Float32Array {
    const rows = floats(this.anchors(name, "F32", channels));
    const position = (tenths * (ANCHORS - 1)) / 1000, low = Math.min(Math.floor(position), ANCHORS - 2);
    const part = position - low;
    return Float32Array.from(
      { length: channels },
      (_, c) => rows[low * channels + c]! * (1 - part) + rows[(low + 1) * channels + c]! * part,
    );
  }

  private anchors(name: string, type: string, channels: number): Tensor {
    const tensor = this.tensors.get(name);
    if (tensor?.type !== type || String(tensor.shape) !== `${ANCHORS},${channels}`)
      throw new NeedsModel(`${name} of the weights ${this.tag} is missing or altered: fetch them again`);
    return tensor;
  }
}

/** The integer tables that symbols are coded with, as exact/tables.py. */
class Tables {
  readonly radius: Int32Array;
  readonly skipBelow: number;
  readonly edges: Int32Array; // the rows, each with its closing 65536
  readonly edgeStart: Int32Array;
  readonly bucket: Uint16Array; // (rows, 256): the symbol of the first slot of each bucket
  readonly savings: Float32Array; // bits that the next symbol towards 0 costs less; only encoders use them
  private readonly cdf: Uint16Array;

  constructor(tensors: ReadonlyMap<string, Tensor>) {
    const array = (name: string, type: string) => {
      const tensor = tensors.get(`tables.${name}`);
      require(tensor?.type === type && tensor.shape.length === 1);
      return aligned(tensor!.bytes);
    };
    this.cdf = new Uint16Array(array("cdf", "U16"));
    this.radius = new Int32Array(array("radius", "I32"));
    this.skipBelow = new Int32Array(array("skip_below", "I32"))[0]!;
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

  private fill(row: number, edges: Int32Array): void {
    const radius = this.radius[row]!, start = this.edgeStart[row]!;
    require(edges[0] === 0 && edges.every((edge, place) => place === 0 || edge > edges[place - 1]!));
    for (let bucket = 0, symbol = 0; bucket < BUCKETS; bucket++) {
      while (edges[symbol + 1]! <= (bucket * TOTAL) / BUCKETS) symbol++;
      this.bucket[row * BUCKETS + bucket] = symbol;
    }
    const bits = (column: number) => -Math.log2(edges[column + 1]! - edges[column]!);
    for (let column = 0; column <= 2 * radius; column++)
      if (column !== radius) this.savings[start + column] = bits(column) - bits(column + (column < radius ? 1 : -1));
  }

  hash(): Promise<string> {
    return shortHash([bytesOf(Int32Array.of(LEVELS, this.skipBelow)), bytesOf(this.radius), bytesOf(this.cdf)]);
  }
}

/** Arrays by name, as the core reads them (native/named.h). */
export class Named {
  private parts: Uint8Array[] = [];
  private count = 0;

  put(name: string, array: ArrayBufferView, shape?: number[]): this {
    const bytes = bytesOf(array), sides = shape ?? [bytes.length];
    const told = new TextEncoder().encode(name);
    this.parts.push(bytesOf(Uint32Array.of(told.length)), told);
    this.parts.push(bytesOf(Uint32Array.of(sides.length, ...sides, bytes.length)), bytes);
    this.count++;
    return this;
  }

  packed(): Uint8Array {
    return joined([bytesOf(Uint32Array.of(this.count)), ...this.parts]);
  }
}

/** The arrays of a safetensors file. NeedsModel for anything else. */
export function readTensors(file: Uint8Array): { metadata: Record<string, string>; tensors: Map<string, Tensor> } {
  try {
    const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    const start = 8 + Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(file.subarray(8, start)));
    const { __metadata__: metadata = {}, ...entries } = header;
    const tensors = new Map<string, Tensor>();
    for (const [name, { dtype, shape, data_offsets }] of Object.entries<any>(entries)) {
      const bytes = file.subarray(start + data_offsets[0], start + data_offsets[1]);
      const count = shape.reduce((product: number, side: number) => product * side, 1);
      if (bytes.length !== count * SIZES[dtype]!) throw new RangeError(name);
      tensors.set(name, { type: dtype, shape, bytes });
    }
    return { metadata, tensors };
  } catch {
    throw new NeedsModel("damaged weights, or not a weights file: fetch them again");
  }
}

function shapeOf(tag: string, config: string): Shape {
  const { latent_channels: latents, lmbda, synthesis, analysis, entropy } = JSON.parse(config);
  const light = synthesis?.kind === "light" && analysis?.kind === "light" && entropy?.kind === "checkerboard";
  if (!light || lmbda !== null)
    throw new NeedsModel(`weights ${tag} are of a model that does not run in a page: take H, I or J`);
  const { hyper_channels: hyper, features, hidden, passes = 2 } = entropy;
  const [wide, wideBlocks, deep, deepBlocks] = widths(synthesis);
  return { latents, hyper, features, hidden, wide, wideBlocks, deep, deepBlocks, ofAnalysis: widths(analysis), passes };
}

function widths({ stride8, stride16 }: any): [number, number, number, number] {
  return [stride8.width, stride8.blocks, stride16.width, stride16.blocks];
}

/** First 4 bytes of the SHA-256 over "name type shape" lines, each followed by the bytes of the array. */
function hashOf(arrays: [string, Tensor][]): Promise<string> {
  const sorted = arrays.sort(([a], [b]) => (a < b ? -1 : 1));
  return shortHash(
    sorted.flatMap(([name, { type, shape, bytes }]) => {
      const sides = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
      return [new TextEncoder().encode(`${name} ${WORDS[type] ?? type} (${sides})\n`), bytes];
    }),
  );
}

function asBytes({ type, shape, bytes }: Tensor): Tensor {
  return { type: "uint8", shape: [...shape.slice(0, -1), shape.at(-1)! * SIZES[type]!], bytes };
}

async function shortHash(parts: Uint8Array[]): Promise<string> {
  return (await sha256(joined(parts))).slice(0, 8);
}

/** Hexadecimal SHA-256. NeedsModel where the page is not served safely enough for the browser to compute it. */
export async function sha256(bytes: Uint8Array): Promise<string> {
  if (!globalThis.crypto?.subtle)
    throw new NeedsModel("the browser checks weights on pages from https or localhost only: open this page from there");
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)));
}

function floats({ type, bytes }: Tensor): Float32Array {
  if (type === "F32") return new Float32Array(aligned(bytes));
  const halves = new Uint16Array(aligned(bytes)); // bfloat16: the upper half of a float32
  return new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
}

/** A copy that may be read as wider numbers. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  return bytes.slice().buffer as ArrayBuffer;
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function require(holds: boolean | undefined): void {
  if (!holds) throw new NeedsModel("damaged entropy tables: fetch the model's weights again");
}
