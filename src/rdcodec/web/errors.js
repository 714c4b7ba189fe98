/** Every error that a user of the codec can meet: one line, what went wrong and what to do. */
export class RdcError extends Error {
    name = "RdcError";
}
/** A file is foreign, cut off, damaged, or beyond the limits. */
export class BadInput extends RdcError {
    name = "BadInput";
}
/** Weights are missing, unknown or altered. */
export class NeedsModel extends RdcError {
    name = "NeedsModel";
}
const KINDS = { RdcError, BadInput, NeedsModel };
/** An error as it travels between a page and its worker, and back to what it was. */
export function revived(name, message) {
    return new (KINDS[name] ?? RdcError)(message);
}
