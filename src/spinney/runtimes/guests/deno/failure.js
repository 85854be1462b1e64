// What went wrong, as the text that a caller sees (Fluxbase contract 3.7), and the codes of docs/guest-channel.md.

import { Error, freeze, isNativeError, slice, String, stringify, uncurry } from './captured.js';

export const outcomes = freeze({ OK: 0, FAILED: 1, NOT_LOADED: 2, NO_HANDLER: 3, BAD_RESULT: 4, TOO_LARGE: 5, UNUSABLE: 0x80 });

const MESSAGE_MAX = 65536;
const errorToString = uncurry(Error.prototype.toString);

function textOf(thrown) {
  if (typeof thrown === 'string') return thrown;
  if (isNativeError(thrown) || thrown instanceof Error) return errorToString(thrown);
  let text;
  try {
    text = stringify(thrown);
  } catch {
    // a cycle or a BigInt
  }
  return text === undefined ? String(thrown) : text;
}

/** The message of a thrown value. Never throws, whatever was thrown. */
export function describe(thrown) {
  try {
    return slice(textOf(thrown), 0, MESSAGE_MAX);
  } catch {
    return 'Error: unknown error';
  }
}
