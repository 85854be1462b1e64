// Built-ins as they were at boot: user code may patch what it likes.

export const uncurry = (method) => Function.prototype.call.bind(method);

export const { Array, BigInt, Error, JSON, Number, Object, Promise, Reflect, String, Symbol, TypeError, RangeError, Uint8Array } =
  globalThis;
export const { parse, stringify } = JSON;
export const { apply } = Reflect;
export const { isArray } = Array;

export const slice = uncurry(String.prototype.slice);
export const indexOf = uncurry(String.prototype.indexOf);
export const charCodeAt = uncurry(String.prototype.charCodeAt);
export const toLowerCase = uncurry(String.prototype.toLowerCase);
export const subarray = uncurry(Uint8Array.prototype.subarray);
export const sliceBytes = uncurry(Uint8Array.prototype.slice);
export const copyWithin = uncurry(Uint8Array.prototype.copyWithin);
export const setBytes = uncurry(Uint8Array.prototype.set);
export const test = uncurry(RegExp.prototype.test);
export const replace = uncurry(String.prototype.replace);
export const { byteLength, isNativeError } = Deno[Deno.internal].core;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
export const encode = encoder.encode.bind(encoder);
export const encodeInto = encoder.encodeInto.bind(encoder);
export const decode = decoder.decode.bind(decoder);
