// Usage: node both_ways.mjs FOLDER. Decodes the files that FOLDER/cases.json names, whole and in strips, and codes its
// pictures, for tests/test_web.py to compare.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const { web, weights, files, pictures, quality } = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8"));
const { Codec } = await import(pathToFileURL(join(web, "codec.js")));
const { Weights } = await import(pathToFileURL(join(web, "weights.js")));
const { draw } = await import(pathToFileURL(join(web, "strips.js")));
const bytes = (path) => new Uint8Array(readFileSync(path));

const module = new WebAssembly.Module(bytes(join(web, "rdc.wasm"))), parts = weights.map(bytes);
const codec = new Codec(module, await Weights.read(...parts));
const other = new Codec(module, codec.weights).core;
const helpers = { count: 2, take: () => undefined, draw: async (_, strip) => draw(other, strip) };
const colours = ({ data }) => data.filter((_, at) => at % 4 < 3);
for (const name of files) {
  const data = bytes(join(folder, `${name}.rdc`)), picture = codec.decode(data);
  assert.deepEqual((await codec.decodeWith(helpers, data)).data, picture.data);
  writeFileSync(join(folder, `${name}.rgb`), colours(picture));
}
for (const [number, [height, width]] of pictures.entries()) {
  const rgb = bytes(join(folder, `${number}.rgb`));
  const data = Uint8ClampedArray.from({ length: 4 * width * height }, (_, at) =>
    at % 4 === 3 ? 255 : rgb[3 * Math.floor(at / 4) + (at % 4)],
  );
  const coded = codec.encode({ width, height, data }, { quality }).data;
  writeFileSync(join(folder, `${number}.rdc`), coded);
  writeFileSync(join(folder, `${number}.decoded`), colours(codec.decode(coded)));
}
