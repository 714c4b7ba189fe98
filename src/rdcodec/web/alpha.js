/** Transparency: lossless WebP tiles, which browsers read and (where they can) write. */
import { BadInput, RdcError } from "./errors.js";
import { joined } from "./container.js";
const TILE = 16383;
const DAMAGED = "damaged: the transparency is not as it was coded: get the file again from its source";
/** Put the alpha of a section into RGBA samples. BadInput unless every tile is a lossless WebP file of its size. */
export async function readAlpha(payload, width, height, rgba) {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    let start = 0;
    for (const { left, top, columns, rows } of tiles(width, height)) {
        if (start + 26 > payload.length)
            throw new BadInput(DAMAGED);
        const end = start + 8 + view.getUint32(start + 4, true);
        const tile = payload.subarray(start, end);
        if (tile.length !== end - start || !isTile(tile, columns, rows))
            throw new BadInput(DAMAGED);
        const samples = await samplesOf(tile, columns, rows);
        for (let y = 0; y < rows; y++)
            for (let x = 0; x < columns; x++)
                rgba[4 * ((top + y) * width + left + x) + 3] = samples[4 * (y * columns + x) + 1];
        start = end;
    }
    if (start !== payload.length)
        throw new BadInput(DAMAGED);
}
/** The payload of a section; undefined for an opaque picture. RdcError where the browser writes no lossless WebP. */
export async function writeAlpha(rgba, width, height) {
    let opaque = true;
    for (let at = 3; at < rgba.length && opaque; at += 4)
        opaque = rgba[at] === 255;
    if (opaque)
        return undefined;
    const parts = [];
    for (const { left, top, columns, rows } of tiles(width, height)) {
        const grey = new ImageData(columns, rows);
        for (let y = 0; y < rows; y++)
            for (let x = 0; x < columns; x++) {
                const alpha = rgba[4 * ((top + y) * width + left + x) + 3], at = 4 * (y * columns + x);
                grey.data.set([alpha, alpha, alpha, 255], at);
            }
        const canvas = new OffscreenCanvas(columns, rows);
        canvas.getContext("2d").putImageData(grey, 0, 0);
        const blob = await canvas.convertToBlob({ type: "image/webp", quality: 1 });
        const tile = simple(new Uint8Array(await blob.arrayBuffer()));
        const again = isTile(tile, columns, rows) ? await samplesOf(tile, columns, rows) : undefined;
        if (!again?.every((value, at) => value === grey.data[at]))
            throw new RdcError("this browser cannot write transparency: fill the background, or use `rdc compress`");
        parts.push(tile);
    }
    return joined(parts);
}
/** A WebP file with its VP8L chunk alone: browsers put a profile beside it. */
function simple(file) {
    const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    for (let at = 12; at + 8 <= file.length;) {
        const end = at + 8 + view.getUint32(at + 4, true), padded = end + (end - at) % 2;
        if (String.fromCharCode(...file.subarray(at, at + 4)) === "VP8L") {
            const whole = joined([file.subarray(0, 12), file.subarray(at, end), new Uint8Array(padded - end)]);
            new DataView(whole.buffer).setUint32(4, whole.length - 8, true);
            return whole;
        }
        at = padded;
    }
    return file;
}
/** Whether a WebP file is one VP8L chunk of this size and nothing else. */
function isTile(tile, columns, rows) {
    if (tile.length < 26)
        return false;
    const text = String.fromCharCode(...tile.subarray(0, 4), ...tile.subarray(8, 16));
    const view = new DataView(tile.buffer, tile.byteOffset, tile.byteLength);
    const chunk = view.getUint32(16, true), bits = view.getUint32(21, true);
    const whole = 20 + chunk + (chunk % 2) === tile.length;
    return text === "RIFFWEBPVP8L" && tile[20] === 0x2f && whole && (bits & 0x3fff) + 1 === columns && ((bits >>> 14) & 0x3fff) + 1 === rows;
}
async function samplesOf(tile, columns, rows) {
    const blob = new Blob([tile], { type: "image/webp" });
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" }).catch(() => undefined);
    if (bitmap?.width !== columns || bitmap.height !== rows)
        throw new BadInput(DAMAGED);
    const context = new OffscreenCanvas(columns, rows).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return context.getImageData(0, 0, columns, rows).data;
}
function* tiles(width, height) {
    for (let top = 0; top < height; top += TILE)
        for (let left = 0; left < width; left += TILE)
            yield { left, top, columns: Math.min(TILE, width - left), rows: Math.min(TILE, height - top) };
}
