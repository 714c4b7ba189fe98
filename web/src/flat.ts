/**
 * Flat areas, as codec/flat.py treats them: blocks of one colour amid their like. The encoder looks at what a decoder makes
 * of them and adds the error to their latents, until a symbol gives way. Numbers and their reasons are there.
 */
const PATCH = 16, SAMPLES = 3 * PATCH * PATCH;
const SHARE = 20;
const ROUNDS = 6, MOST_ROUNDS = 12, PATIENCE = 3;
const NEAR = 2, SEEN_GREY = 4, SEEN = 8, SEEN_FROM = 400;
const LEVELS = 4.3, LEAST = 0.35, MOST = 2.8, EXTREME = 4;
const AT_ONCE = 1024; // blocks whose errors are in memory together

/** Samples of a picture, row by row, so many a pixel, of which the first three are colours. */
export interface Samples {
  width: number;
  height: number;
  perPixel: 3 | 4;
  data: Uint8Array | Uint8ClampedArray;
}

/** The flat blocks of a picture. */
export interface Flats {
  places: Int32Array; // of n blocks, row by row of the picture's
  colours: Uint8Array; // (n, 3)
}

/** How far flat blocks are from their colours, in grey levels. What comes first counts first. */
export type Off = [seen: number, largest: number, meanSquare: number];

/** Blocks of one colour whose neighbours have it too; undefined if they are too few to matter. */
export function find(picture: Samples): Flats | undefined {
  const { rows, columns } = blocksOf(picture), all = rows * columns;
  const flat = Uint8Array.from({ length: all }, (_, place) => +isFlat(picture, place, [0, 7, 15]));
  if (sum(flat) * SHARE < all) return undefined;
  const inside = Array.from({ length: PATCH }, (_, at) => at);
  flat.forEach((is, place) => is && (flat[place] = +isFlat(picture, place, inside)));
  const colour = (place: number) => colourAt(picture, Math.floor(place / columns) * PATCH, (place % columns) * PATCH);
  const colours = Int32Array.from(flat, (is, place) => (is ? colour(place) : -1));
  const amid = (place: number) => {
    const row = Math.floor(place / columns), column = place % columns;
    for (let r = Math.max(row - 1, 0); r <= Math.min(row + 1, rows - 1); r++)
      for (let c = Math.max(column - 1, 0); c <= Math.min(column + 1, columns - 1); c++)
        if (colours[r * columns + c] !== colours[place]) return false;
    return true;
  };
  const places = Int32Array.from(colours.keys()).filter((place) => flat[place] && amid(place));
  if (places.length * SHARE < all) return undefined;
  const found = new Uint8Array(3 * places.length);
  places.forEach((place, k) => found.set([colours[place]! >> 16, (colours[place]! >> 8) & 255, colours[place]! & 255], 3 * k));
  return { places, colours: found };
}

/** How far they are off in a decoded picture. */
export function off({ places, colours }: Flats, decoded: Samples): Off {
  let seen = 0, largest = 0, total = 0;
  const errors = new Int16Array(SAMPLES);
  places.forEach((place, k) => {
    const colour = colours.subarray(3 * k, 3 * k + 3);
    fill(errors, decoded, place, colour);
    let most = 0;
    for (const error of errors) {
      most = Math.max(most, Math.abs(error));
      total += error * error;
    }
    const isGrey = colour[0] === colour[1] && colour[1] === colour[2];
    seen = Math.max(seen, most - (isGrey ? SEEN_GREY : SEEN));
    largest = Math.max(largest, most);
  });
  return [seen, largest, total / (places.length * SAMPLES)];
}

export function isLess(a: Off, b: Off): boolean {
  const first = a.findIndex((value, k) => value !== b[k]);
  return first >= 0 && a[first]! < b[first]!;
}

/** Whether to stop after so many rounds, the last `waited` of which have brought nothing. */
export function isEnough([seen, largest]: Off, rounds: number, waited: number, tenths: number): boolean {
  if (seen > 0 && tenths >= SEEN_FROM) return rounds >= MOST_ROUNDS * (seen <= 1 ? 2 : 1);
  return largest <= NEAR || rounds >= ROUNDS || waited >= PATIENCE;
}

/** Some blocks after others: their places, and what samples (n, 16, 16, 3) are to add to their latents. */
export function* lacking({ places, colours }: Flats, decoded: () => Samples): Generator<[Int32Array, Float32Array]> {
  const errors = new Int16Array(SAMPLES);
  for (let first = 0; first < places.length; first += AT_ONCE) {
    const some = places.subarray(first, first + AT_ONCE), samples = new Float32Array(some.length * SAMPLES);
    const now = decoded();
    some.forEach((place, k) => {
      const colour = colours.subarray(3 * (first + k), 3 * (first + k) + 3);
      const times = colour.every((value) => value === 0) || colour.every((value) => value === 255) ? EXTREME : 1;
      fill(errors, now, place, colour);
      for (let s = 0; s < SAMPLES; s++) samples[k * SAMPLES + s] = times * WEIGHTED[errors[s]! + 255]!;
    });
    yield [some, samples];
  }
}

const WEIGHTED = Float32Array.from({ length: 511 }, (_, place) => {
  const error = place - 255;
  return error * Math.fround(Math.min(Math.max(Math.abs(error) / LEVELS, LEAST), MOST));
});

/** What a block lacks, (16, 16, 3); the last samples of a picture go on to fill the last of its blocks. */
function fill(errors: Int16Array, { width, height, perPixel, data }: Samples, place: number, colour: Uint8Array): void {
  const columns = Math.ceil(width / PATCH), top = Math.floor(place / columns) * PATCH, left = (place % columns) * PATCH;
  for (let y = 0, to = 0; y < PATCH; y++) {
    const row = Math.min(top + y, height - 1) * width;
    for (let x = 0; x < PATCH; x++) {
      const at = perPixel * (row + Math.min(left + x, width - 1));
      for (let c = 0; c < 3; c++) errors[to++] = colour[c]! - data[at + c]!;
    }
  }
}

/** Whether the samples at these places of either side of a block are of one colour. */
function isFlat(picture: Samples, place: number, inside: number[]): boolean {
  const { columns } = blocksOf(picture), top = Math.floor(place / columns) * PATCH, left = (place % columns) * PATCH;
  const colour = colourAt(picture, top, left);
  return inside.every((y) => inside.every((x) => colourAt(picture, top + y, left + x) === colour));
}

function colourAt({ width, height, perPixel, data }: Samples, y: number, x: number): number {
  const at = perPixel * (Math.min(y, height - 1) * width + Math.min(x, width - 1));
  return (data[at]! << 16) | (data[at + 1]! << 8) | data[at + 2]!;
}

function blocksOf({ width, height }: Samples): { rows: number; columns: number } {
  return { rows: Math.ceil(height / PATCH), columns: Math.ceil(width / PATCH) };
}

function sum(values: Uint8Array): number {
  return values.reduce((sum, value) => sum + value, 0);
}
