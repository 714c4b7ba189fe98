import * as container from "./container.js";
import { revived, RdcError } from "./errors.js";
export { BadInput, NeedsModel, RdcError } from "./errors.js";
export { RELEASED } from "./released.js";
/** What a file says of itself; its beginning, up to the end of its sections, is enough. BadInput for others. */
export function info(data, maxPixels = container.MAX_PIXELS) {
    const header = container.readHeader(data, maxPixels);
    const section = (id) => container.sectionOf(header, id);
    return {
        width: header.width,
        height: header.height,
        tag: header.tag,
        quality: header.tenths === container.SINGLE_RATE ? undefined : header.tenths / 10,
        hasAlpha: section(container.ALPHA) !== undefined,
        isGrey: section(container.GREY) !== undefined,
        icc: section(container.ICC),
        exif: section(container.EXIF),
        xmp: section(container.XMP),
    };
}
/** The picture of an `.rdc` file. BadInput for damage or size, NeedsModel for unknown weights. */
export async function decode(data, options) {
    return (await decodeTimed(data, options)).image;
}
/** As `decode`, with the seconds of work, without what was fetched. */
export async function decodeTimed(data, options) {
    const { maxPixels = container.MAX_PIXELS, onProgress } = options;
    const { icc } = info(data, maxPixels);
    const weights = absolute(options.weights);
    const picture = (await ask({ kind: "decode", data, weights, maxPixels }, onProgress));
    const image = Object.assign(new ImageData(picture.data, picture.width, picture.height), { icc });
    return { image, seconds: picture.seconds };
}
/** The bytes of an `.rdc` file, quality 0 to 100 (default 50), or the best of so many `bytes`. */
export async function encode(image, options) {
    return (await encodeTimed(image, options)).data;
}
/** As `encode`, with the quality that was taken and the seconds of work. */
export async function encodeTimed(image, options) {
    const { model = "I", onProgress, quality, bytes } = options;
    const { width, height, data, colorSpace = "srgb" } = image;
    if (colorSpace !== "srgb" || data.BYTES_PER_ELEMENT !== 1) // not instanceof: samples may come from another frame
        throw new RdcError("samples in another colour space or with more than 8 bits: draw the picture on a canvas in sRGB first");
    const target = { ...(quality === undefined ? {} : { quality }), ...(bytes === undefined ? {} : { bytes }) };
    const picture = { width, height, data: data };
    const request = { kind: "encode", picture, target, model, weights: absolute(options.weights) };
    return (await ask(request, onProgress));
}
let worker;
let next = 0;
const waiting = new Map();
function ask(request, progress) {
    worker ??= started();
    const id = next++;
    return new Promise((done, fail) => {
        worker.postMessage({ id, request });
        waiting.set(id, { done, fail, progress });
    });
}
function started() {
    const made = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    made.onmessage = ({ data }) => {
        const asked = waiting.get(data.id);
        if (!asked)
            return;
        if ("progress" in data)
            return asked.progress?.(...data.progress);
        waiting.delete(data.id);
        if ("error" in data)
            asked.fail(revived(data.error.name, data.error.message));
        else
            asked.done(data.result);
    };
    made.onerror = (event) => {
        event.preventDefault();
        made.terminate();
        worker = undefined; // the next request starts another
        for (const { fail } of waiting.values())
            fail(new RdcError("the codec's worker could not run: open the page again"));
        waiting.clear();
    };
    return made;
}
function absolute(source) {
    return typeof source === "string" ? new URL(source, document.baseURI).href : source;
}
