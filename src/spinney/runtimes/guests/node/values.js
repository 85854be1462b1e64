'use strict';
// What crosses the wire: the text of a handler's value, and the message of what it threw.

const { inspect } = require('node:util');
const { byteLength, uncurry } = require('./channel.js');

const { stringify } = JSON;
const indexOf = uncurry(String.prototype.indexOf);
const charCodeAt = uncurry(String.prototype.charCodeAt);
const slice = uncurry(String.prototype.slice);
const { isNativeError } = require('node:util/types');

const DEPTH_MAX = 512;
const MESSAGE_MAX = 65536;
const outcomes = { OK: 0, FAILED: 1, NOT_LOADED: 2, NO_HANDLER: 3, NOT_JSON: 4, TOO_LARGE: 5, UNUSABLE: 0x80 };

/** Whether `text` holds more than `limit` of one character: one native search per find, so that flat texts cost next to nothing. */
function countAbove(text, character, limit) {
  let count = 0;
  for (let at = indexOf(text, character, 0); at !== -1; at = indexOf(text, character, at + 1)) {
    if (++count > limit) return true;
  }
  return false;
}

/** Whether JSON text nests deeper than allowed, judged by its brackets outside strings. */
function nestsTooDeep(text) {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const code = charCodeAt(text, at);
    if (code === 0x22) {
      for (at++; charCodeAt(text, at) !== 0x22; at++) if (charCodeAt(text, at) === 0x5c) at++;
    } else if (code === 0x5b || code === 0x7b) {
      if (++depth > DEPTH_MAX) return true;
    } else if (code === 0x5d || code === 0x7d) {
      depth--;
    }
  }
  return false;
}

function mayNestTooDeep(text) {
  const half = DEPTH_MAX >> 1; // of both kinds of brackets together there must be more than DEPTH_MAX
  return text.length > 2 * DEPTH_MAX && (countAbove(text, '[', half) || countAbove(text, '{', half));
}

/** A value as [outcome, text]. */
function encode(value, bytesMax) {
  let text;
  try {
    text = stringify(value);
  } catch (error) {
    return [outcomes.NOT_JSON, describe(error)];
  }
  if (text === undefined) return [outcomes.OK, 'null'];
  if (mayNestTooDeep(text) && nestsTooDeep(text)) return [outcomes.NOT_JSON, `nested deeper than ${DEPTH_MAX} levels`];
  if (text.length * 3 > bytesMax && byteLength(text) > bytesMax) return [outcomes.TOO_LARGE, ''];
  return [outcomes.OK, text];
}

function messageOf(thrown) {
  if (typeof thrown === 'string') return thrown;
  if (typeof thrown === 'object' && thrown !== null) {
    const { message } = thrown;
    if (typeof message === 'string' && message !== '') return message;
    if ((thrown instanceof Error || isNativeError(thrown)) && typeof thrown.name === 'string') return thrown.name;
  }
  return inspect(thrown);
}

/** The message of a thrown value: Impuls contract 3.6. Never throws, whatever was thrown. */
function describe(thrown) {
  try {
    return slice(messageOf(thrown), 0, MESSAGE_MAX);
  } catch {
    return 'unknown error';
  }
}

module.exports = { encode, describe, outcomes };
