// Built-ins as they were at boot: user code may patch what it likes. A user's module can import this file, and any of the guest's: Deno
// asks for no permission for what is loaded already. So what the guest's files export is harmless, or can be had once only.

export const uncurry = (method) => Function.prototype.call.bind(method);

export const { Error, JSON, Number, Object, Promise, RangeError, Reflect, String, TypeError, Uint8Array } = globalThis;
export const { parse, stringify } = JSON;
export const { apply } = Reflect;
export const { isArray } = Array;
export const { freeze } = Object;

export const slice = uncurry(String.prototype.slice);
export const indexOf = uncurry(String.prototype.indexOf);
export const charCodeAt = uncurry(String.prototype.charCodeAt);
export const replace = uncurry(String.prototype.replace);
export const toLowerCase = uncurry(String.prototype.toLowerCase);
export const test = uncurry(RegExp.prototype.test);
export const subarray = uncurry(Uint8Array.prototype.subarray);
export const sliceBytes = uncurry(Uint8Array.prototype.slice);
export const fillBytes = uncurry(Uint8Array.prototype.fill);
export const setBytes = uncurry(Uint8Array.prototype.set);

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
export const encode = encoder.encode.bind(encoder);
export const encodeInto = encoder.encodeInto.bind(encoder);
export const decode = decoder.decode.bind(decoder);

/** Something that is given out once, at boot. */
export function once(make) {
  let made = false;
  return () => {
    if (made) throw new TypeError('This belongs to the runtime');
    made = true;
    return make();
  };
}

const { internal } = Deno;
export const { byteLength, isNativeError } = Deno[internal].core;

/** What lies below Deno's interfaces; from now on it cannot be had any more. */
export const takeInternals = once(() => {
  const { core, Console } = Deno[internal];
  delete Deno[internal];
  delete Deno.internal;
  return { core, Console };
});
