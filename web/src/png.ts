/** PNG files with the exact samples and the colour profile: a canvas writes neither for certain. */
import { joined } from "./container.js";

/** A PNG of RGBA samples, 8 bits; icc: the profile of the samples. */
export async function png(image: ImageData, icc?: Uint8Array): Promise<Uint8Array> {
  const { width, height, data } = image;
  const rows = new Uint8Array(height * (1 + 4 * width)); // each with a filter before it: 1, the difference to the left
  for (let y = 0, to = 0; y < height; y++) {
    rows[to++] = 1;
    for (let at = 4 * y * width, end = at + 4 * width, x = 0; at < end; at++, x++)
      rows[to++] = data[at]! - (x < 4 ? 0 : data[at - 4]!);
  }
  const head = new Uint8Array(13), view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 6], 8); // bits, and RGBA
  const profile = icc ? [await chunk("iCCP", joined([Uint8Array.of(105, 99, 99, 0, 0), await deflated(icc)]))] : [];
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10);
  return joined([signature, chunk("IHDR", head), ...profile, chunk("IDAT", await deflated(rows)), chunk("IEND", new Uint8Array())]);
}

function chunk(name: string, payload: Uint8Array): Uint8Array {
  const whole = new Uint8Array(12 + payload.length), view = new DataView(whole.buffer);
  view.setUint32(0, payload.length);
  whole.set(new TextEncoder().encode(name), 4);
  whole.set(payload, 8);
  view.setUint32(8 + payload.length, crc32(whole.subarray(4, 8 + payload.length)));
  return whole;
}

async function deflated(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = (byte >>> 1) ^ (byte & 1 ? 0xedb88320 : 0);
  return byte >>> 0;
});

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}
