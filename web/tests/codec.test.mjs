// The core in node, without a browser, on the files that never change. tests/test_web.py compares pixels with the codec in
// Python; here stand the laws that need nothing but this folder and tests/golden.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const built = new URL(`${process.env.RDCODEC_WEB ?? "../../src/rdcodec/web"}/`, import.meta.url);
const golden = new URL("../../tests/golden/", import.meta.url);
const { Codec } = await import(new URL("codec.js", built));
const { Weights } = await import(new URL("weights.js", built));
const { pack, unpack } = await import(new URL("container.js", built));
const { divided, draw } = await import(new URL("strips.js", built));
const { RdcError } = await import(new URL("errors.js", built));

const module = new WebAssembly.Module(readFileSync(new URL("rdc.wasm", built)));
const weightsOf = (tag) => Weights.read(new Uint8Array(readFileSync(new URL(`${tag}.safetensors`, golden))));
const weights = await weightsOf("Golden.1");
const codec = new Codec(module, weights);
const file = (name) => new Uint8Array(readFileSync(new URL(`${name}.rdc`, golden)));

/** Numbers from a seed (xorshift32). */
function random(seed) {
  return () => {
    for (const [left, by] of [[1, 13], [0, 17], [1, 5]]) seed ^= left ? seed << by : seed >>> by;
    return (seed >>> 0) / 2 ** 32;
  };
}

function noise(width, height, next = random(7)) {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let at = 0; at < data.length; at++) data[at] = at % 4 === 3 ? 255 : 128 + 100 * Math.sin(at / 97) + 20 * next();
  return { width, height, data };
}

test("the module imports nothing and is small", () => {
  assert.deepEqual(WebAssembly.Module.imports(module), []);
  assert.ok(readFileSync(new URL("rdc.wasm", built)).length < 400_000);
});

test("golden files decode to the symbols that were coded", () => {
  for (const name of ["one-pixel", "small", "square", "odd", "lowest", "highest", "noise", "flat", "sections", "extremes"]) {
    const { header } = unpack(file(name));
    const picture = codec.decode(file(name)); // compares the checksum of the symbols
    assert.deepEqual([picture.width, picture.height], [header.width, header.height]);
  }
});

test("golden files of a synthesis on integers give the pixels that they always will", async () => {
  const exact = new Codec(module, await weightsOf("Golden-pixels.1"));
  const told = JSON.parse(readFileSync(new URL("golden.json", golden), "utf8"));
  const names = Object.keys(told).filter((name) => told[name].tag === "Golden-pixels.1");
  assert.ok(names.length >= 5);
  for (const name of names) {
    const rgb = exact.decode(file(name)).data.filter((_, at) => at % 4 < 3);
    assert.equal(createHash("sha256").update(rgb).digest("hex"), told[name].pixels, name);
  }
});

test("what is coded decodes, to the same at any size and quality", () => {
  for (const [width, height] of [[1, 1], [3, 17], [16, 16], [33, 70], [129, 65]])
    for (const quality of [0, 12.3, 50, 100]) {
      const { data } = codec.encode(noise(width, height), { quality });
      const picture = codec.decode(data);
      assert.equal(picture.data.length, 4 * width * height);
      const { header, stream } = unpack(data);
      assert.equal(header.tenths, 10 * quality);
      assert.deepEqual(pack(header, stream), data);
    }
});

test("strips drawn by other instances make the same picture, bit for bit", async () => {
  const other = new Codec(module, weights).core, taken = [];
  const helpers = { count: 3, take: (_, count) => taken.push(count), draw: async (_, strip) => draw(other, strip) };
  for (const [width, height, hands] of [[70, 600, 4], [33, 260, 2], [16, 255, 1]]) {
    const { data } = codec.encode(noise(width, height), { quality: 60 });
    const { width: across, height: down, data: samples } = await codec.decodeWith(helpers, data);
    assert.deepEqual([across, down], [width, height]);
    assert.deepEqual(samples, codec.decode(data).data);
    assert.equal(hands > 1 ? taken.pop() + 1 : 1, hands);
    const failing = { ...helpers, draw: async () => undefined }; // the picture is drawn without them
    assert.deepEqual((await codec.decodeWith(failing, data)).data, samples);
    taken.length = 0;
  }
  const edges = divided(1000, 4).flat();
  assert.deepEqual(edges, [0, 250, 250, 500, 500, 750, 750, 1000]);
});

test("a strip beyond its picture is refused", () => {
  const { data } = codec.encode(noise(16, 320), { quality: 60 });
  const { header, stream } = unpack(data);
  const [strip] = codec.strips(header, stream, [[5, 12]]);
  assert.equal(draw(codec.core, strip).length, 4 * 16 * 16 * 7);
  for (const wrong of [{ first: -1 }, { end: 21 }, { end: 5 }, { from: 4 }, { to: 13 }])
    assert.throws(() => draw(codec.core, { ...strip, ...wrong }), /strip beyond its picture/);
});

test("a target in bytes is met, or said to be out of reach", () => {
  const picture = noise(96, 64);
  const { data, quality } = codec.encode(picture, { bytes: 700 });
  assert.ok(data.length <= 700);
  assert.ok(quality === 100 || codec.encode(picture, { quality: quality + 0.1 }).data.length > 700);
  assert.throws(() => codec.encode(picture, { bytes: 10 }), /smallest of this picture has/);
});

test("a target in bytes is met with flat areas, of which each round costs some", () => {
  const picture = noise(96, 128);
  picture.data.fill(255, 4 * 96 * 32);
  for (const bytes of [310, 400, 700]) {
    const { data, quality } = codec.encode(picture, { bytes });
    assert.ok(data.length <= bytes);
    assert.equal(unpack(data).header.tenths, Math.round(10 * quality));
  }
  assert.throws(() => codec.encode(picture, { bytes: 10 }), /smallest of this picture has/);
});

test("impossible requests are errors in words", () => {
  const picture = noise(8, 8);
  assert.throws(() => codec.encode(picture, { quality: 101 }), /no number from 0 to 100/);
  assert.throws(() => codec.encode({ ...picture, width: 9 }), /needs four a pixel/);
  assert.throws(() => codec.decode(file("square"), 10), /allowed here/);
  assert.throws(() => codec.decode(file("released-I.4")), /other weights/);
  assert.throws(() => codec.decode(new Uint8Array([1, 2, 3])), /not an .rdc file/);
});

test("damaged files are errors in words, and leave the codec sound", () => {
  const count = Number(process.env.RDCODEC_MUTATIONS ?? 300);
  const next = random(33), names = ["small", "square", "odd", "lowest", "highest", "extremes"];
  const files = names.map((name) => ({ data: file(name), ...unpack(file(name)) }));
  const good = file("small"), expected = Buffer.from(codec.decode(good).data);
  let decoded = 0, memory = 0;
  for (let k = 0; k < count; k++) {
    const { data, header, stream } = files[k % files.length];
    const wrong = (k % 2 ? stream : data).slice();
    for (let left = 1 + Math.floor(next() * 3); left > 0; left--)
      wrong[Math.floor(next() * wrong.length)] ^= 1 << Math.floor(next() * 8);
    const cut = k % 5 ? wrong : wrong.slice(0, Math.floor(next() * wrong.length));
    try {
      codec.decode(k % 2 ? pack(header, cut) : cut); // every other one with right checksums around it
      decoded++;
    } catch (error) {
      assert.ok(error instanceof RdcError, String(error?.stack ?? error));
      assert.match(error.message, /^[ -~×]{10,200}$/);
    }
    assert.ok(expected.equals(Buffer.from(codec.decode(good).data)));
    memory = Math.max(memory, codec.core.live?.exports.memory.buffer.byteLength ?? 0);
  }
  assert.ok(decoded <= count / 1000, `${decoded} damaged files were decoded`); // bits that cancel one another
  assert.ok(memory < 64 << 20);
});

test("a download that breaks off is an error in words", async () => {
  const { findWeights } = await import(new URL("store.js", built));
  const real = globalThis.fetch;
  const broken = () => new ReadableStream({ pull: (to) => to.error(new TypeError("network error")) });
  globalThis.fetch = async () => new Response(broken());
  try {
    await assert.rejects(findWeights("J.3", "http://localhost/", false, () => {}), /weights could not be fetched \(the conn/);
  } finally {
    globalThis.fetch = real;
  }
});

test("damaged weights are errors in words", async () => {
  const bytes = new Uint8Array(readFileSync(new URL("Golden.1.safetensors", golden)));
  await assert.rejects(Weights.read(bytes.slice(0, 5000)), /damaged weights/);
  await assert.rejects(Weights.read(new Uint8Array(100)), /damaged weights/);
  const charm = new Uint8Array(readFileSync(new URL("Golden-charm.1.safetensors", golden)));
  await assert.rejects(Weights.read(charm), RdcError);
  const altered = bytes.slice();
  altered[altered.length - 1] ^= 1;
  const other = new Codec(module, await Weights.read(altered));
  assert.throws(() => other.decode(file("odd")), /other weights/);
});
