/** The `.rdc` container, version 1: bytes around one coded picture. docs/format.md is its law. */
import { crc32c } from "./crc32c.js";
import { BadInput, RdcError } from "./errors.js";
export const MAX_SIDE = 1 << 24;
export const MAX_PIXELS = 40_000_000; // of a picture, unless the caller allows more
export const SINGLE_RATE = 0xffff;
export const ICC = 1, EXIF = 2, XMP = 3, GREY = 4, ALPHA = 128; // section ids
const MAGIC = [0x8a, 0x52, 0x44, 0x43];
const VERSION = 1, CRITICAL = 0x80, KNOWN_CRITICAL = [ALPHA];
const TAG = /^[A-Za-z][A-Za-z0-9_-]{0,47}\.(0|[1-9][0-9]{0,8})$/;
const AGAIN = "get the file again from its source";
/** Header and coded stream of a whole file, every length and checksum verified. BadInput for anything else. */
export function unpack(data, maxPixels = MAX_PIXELS) {
    const { header, position, streamBytes, streamCrc } = read(data, maxPixels);
    const stream = data.subarray(position);
    if (stream.length < streamBytes)
        throw new BadInput(`cut off: ${stream.length} of ${streamBytes} stream bytes are there: ${AGAIN}`);
    if (stream.length > streamBytes)
        throw new BadInput(`${stream.length - streamBytes} bytes too many at the end: ${AGAIN}`);
    if (crc32c(stream) !== streamCrc)
        throw new BadInput(`damaged: the checksum of the stream is wrong: ${AGAIN}`);
    return { header, stream };
}
/** Header and sections of a file, or of its beginning. BadInput as `unpack`; what follows them is not looked at. */
export function readHeader(data, maxPixels = MAX_PIXELS) {
    return read(data, maxPixels).header;
}
/** The bytes of a file. */
export function pack(header, stream) {
    if (!TAG.test(header.tag))
        throw new RdcError(`${header.tag} is not a model tag such as I.1`);
    const head = new Writer();
    head.bytes(Uint8Array.from([...MAGIC, VERSION, header.tag.length]), new TextEncoder().encode(header.tag));
    head.varint(header.width);
    head.varint(header.height);
    head.number(header.tenths, 2);
    for (const hash of [header.tablesHash, header.entropyHash, header.synthesisHash])
        head.bytes(unhex(hash));
    head.number(header.symbolsCrc, 4);
    head.varint(stream.length);
    head.number(crc32c(stream), 4);
    head.number(header.sections.length, 1);
    head.number(crc32c(head.joined()), 4);
    for (const { id, payload } of header.sections) {
        const start = new Writer();
        start.number(id, 1);
        start.varint(payload.length);
        const beginning = start.joined();
        start.number(crc32c(beginning, payload), 4);
        head.bytes(start.joined(), payload);
    }
    head.bytes(stream);
    return head.joined();
}
/** The first section of an id. */
export function sectionOf(header, id) {
    return header.sections.find((section) => section.id === id)?.payload;
}
function read(data, maxPixels) {
    if (MAGIC.some((byte, place) => data[place] !== byte))
        throw new BadInput("not an .rdc file");
    const reader = new Reader(data, MAGIC.length);
    const version = reader.number(1);
    if (version !== VERSION)
        throw new BadInput(`format version ${version}, this program reads ${VERSION}: use a newer rdcodec`);
    const header = {
        tag: String.fromCharCode(...reader.take(reader.number(1))),
        width: reader.varint(),
        height: reader.varint(),
        tenths: reader.number(2),
        tablesHash: hex(reader.take(4)),
        entropyHash: hex(reader.take(4)),
        synthesisHash: hex(reader.take(4)),
        symbolsCrc: reader.number(4),
        sections: [],
    };
    const streamBytes = reader.varint(), streamCrc = reader.number(4), count = reader.number(1);
    const head = data.subarray(0, reader.position);
    if (reader.number(4) !== crc32c(head))
        throw new BadInput(`damaged: the checksum of the header is wrong: ${AGAIN}`);
    for (let i = 0; i < count; i++)
        header.sections.push(reader.section());
    check(header, maxPixels);
    return { header, position: reader.position, streamBytes, streamCrc };
}
function check({ tag, width, height, tenths }, maxPixels) {
    const sides = [width, height].every((side) => side >= 1 && side <= MAX_SIDE);
    if (!TAG.test(tag) || !sides || (tenths > 1000 && tenths !== SINGLE_RATE))
        throw new BadInput(`impossible header: ${AGAIN}`);
    checkPixels(width, height, maxPixels);
}
/** BadInput for a picture of more than `maxPixels`, or so thin that padding makes a quarter more than that of it. */
export function checkPixels(width, height, maxPixels) {
    const padded = Math.ceil(width / 16) * Math.ceil(height / 16) * 256;
    if (width * height > maxPixels || padded > Math.max(1.25 * maxPixels, 1 << 20))
        throw new BadInput(`${width} × ${height} pixels are more than the ${maxPixels} that are allowed here`);
}
/** Takes fields off the front of a file, never past its end. */
class Reader {
    data;
    position;
    constructor(data, position) {
        this.data = data;
        this.position = position;
    }
    take(count) {
        const end = this.position + count;
        if (end > this.data.length)
            throw new BadInput(`cut off in the header, at byte ${this.data.length}: ${AGAIN}`);
        const field = this.data.subarray(this.position, end);
        this.position = end;
        return field;
    }
    number(count) {
        return this.take(count).reduceRight((value, byte) => value * 256 + byte, 0);
    }
    varint() {
        const start = this.position;
        let value = 0;
        for (let place = 0; place < 5; place++) {
            const byte = this.number(1);
            value += (byte & 0x7f) * 2 ** (7 * place);
            if (byte < 0x80) {
                if ((byte === 0 && place > 0) || value >= 2 ** 32)
                    break;
                return value;
            }
        }
        throw new BadInput(`damaged: malformed number at byte ${start}: ${AGAIN}`);
    }
    section() {
        const start = this.position;
        const id = this.number(1), count = this.varint();
        const head = this.data.subarray(start, this.position);
        const crc = this.number(4), payload = this.take(count);
        if (crc32c(head, payload) !== crc)
            throw new BadInput(`damaged: the checksum of section ${id} is wrong: ${AGAIN}`);
        if (id >= CRITICAL && !KNOWN_CRITICAL.includes(id))
            throw new BadInput(`section ${id} is needed but unknown to this program: use a newer rdcodec`);
        return { id, payload };
    }
}
class Writer {
    parts = [];
    bytes(...parts) {
        this.parts.push(...parts);
    }
    number(value, count) {
        this.bytes(Uint8Array.from({ length: count }, (_, place) => Math.floor(value / 256 ** place) & 0xff));
    }
    varint(value) {
        for (; value > 0x7f; value = Math.floor(value / 128))
            this.number((value & 0x7f) | 0x80, 1);
        this.number(value, 1);
    }
    joined() {
        return joined(this.parts);
    }
}
/** Bytes one after the other. */
export function joined(parts) {
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
        all.set(part, at);
        at += part.length;
    }
    return all;
}
export function hex(bytes) {
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
function unhex(digits) {
    return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
