/** Every error that a user of the codec can meet: one line, what went wrong and what to do. */
export class RdcError extends Error {
  override name = "RdcError";
}

/** A file is foreign, cut off, damaged, or beyond the limits. */
export class BadInput extends RdcError {
  override name = "BadInput";
}

/** Weights are missing, unknown or altered. */
export class NeedsModel extends RdcError {
  override name = "NeedsModel";
}

const KINDS: Record<string, new (message: string) => RdcError> = { RdcError, BadInput, NeedsModel };

/** An error as it travels between a page and its worker, and back to what it was. */
export function revived(name: string, message: string): RdcError {
  return new (KINDS[name] ?? RdcError)(message);
}
