// The process's environment, put back before every call. Deno, its Node layer and libc all read libc's `environ`, so the guest puts a table
// of its own there: putting it back is a copy of some bytes, whoever changed what in whichever way.

import { Error, fillBytes, Object, once, setBytes, subarray, uncurry, Uint8Array } from './captured.js';

const ARENA_BYTES = 262144; // untouched pages cost nothing
const ENTRIES_MAX = 4096;
const EXECUTION_ID = 'FLUXBASE_EXECUTION_ID';
const ID_BYTES = 128;
const ALWAYS_SHOWN = /^(?:FLUXBASE|SPINNEY)_/;
const OUR_OWN = /^(?:DENO_|NO_COLOR$)/;
const LIBC = { dlsym: { parameters: ['pointer', 'buffer'], result: 'pointer' } };

const setEntries = uncurry(BigUint64Array.prototype.set);
const encoder = new TextEncoder();

/** Whether the function has the right to see it all: Deno's flags let it, and the sandbox has more to show than the guest's own. */
function isShown() {
  try {
    return Deno.env.has('PATH');
  } catch {
    return false;
  }
}

class Environment {
  #arena = new Uint8Array(ARENA_BYTES);
  #table = new BigUint64Array(ENTRIES_MAX);
  #entries = new BigUint64Array(1);
  #used = 0;
  #id = null;
  #shown = isShown();
  #fixed = this.#shown ? Deno.env.toObject() : {};
  #environ;
  #arenaAt;
  #tableAt;

  constructor() {
    const { of, value } = Deno.UnsafePointer;
    const place = Deno.dlopen('libc.so.6', LIBC).symbols.dlsym(null, encoder.encode('environ\0'));
    this.#environ = new BigUint64Array(Deno.UnsafePointerView.getArrayBuffer(place, 8));
    this.#arenaAt = BigInt(value(of(this.#arena)));
    this.#tableAt = BigInt(value(of(this.#table)));
    this.configure({});
  }

  /** Put the function's variables over the sandbox's fixed ones. Before any user code runs. */
  configure(variables) {
    const entries = Object.entries({ ...this.#fixed, ...variables, [EXECUTION_ID]: '' });
    const kept = entries.filter(([name]) => (this.#shown && !OUR_OWN.test(name)) || ALWAYS_SHOWN.test(name));
    if (kept.length >= ENTRIES_MAX) throw new Error('The environment has too many variables');
    this.#used = 0;
    this.#entries = new BigUint64Array(kept.length + 1);
    kept.forEach(([name, value], index) => {
      this.#entries[index] = this.#arenaAt + BigInt(this.#used);
      const start = this.#used + name.length + 1;
      this.#append(`${name}=${value}`, name === EXECUTION_ID ? ID_BYTES : 1);
      if (name === EXECUTION_ID) this.#id = subarray(this.#arena, start, start + ID_BYTES);
    });
    this.restore(new Uint8Array(0));
  }

  /** Add text to the arena, with room behind it; its end is always a zero byte. */
  #append(text, room) {
    const bytes = encoder.encode(text);
    if (this.#used + bytes.length + room > ARENA_BYTES) throw new Error('The environment is too large');
    fillBytes(this.#arena, 0, this.#used, this.#used + bytes.length + room);
    setBytes(this.#arena, bytes, this.#used);
    this.#used += bytes.length + room;
  }

  /** Undo what the last call changed, for the execution whose id is these bytes. */
  restore(id) {
    setEntries(this.#table, this.#entries);
    this.#environ[0] = this.#tableAt;
    if (id.length >= ID_BYTES) return;
    setBytes(this.#id, id);
    this.#id[id.length] = 0;
  }
}

export const openEnvironment = once(() => new Environment());
