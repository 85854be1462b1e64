// Timers of a call end with it. Deno's own functions make them; here it is only noted which ones there are.

import { apply, Object, uncurry } from './captured.js';

const { clearImmediate, clearTimeout } = globalThis;
const { AbortController, DOMException } = globalThis;
const { unrefTimer } = Deno;
const [add, remove, each, forget] = ['add', 'delete', 'forEach', 'clear'].map((name) => uncurry(Set.prototype[name]));

const timers = new Set();
const immediates = new Set();

/** Put a function in the place of a built-in one that it differs from in what it does and in nothing else. */
function replace(owner, name, replacement) {
  Object.defineProperties(replacement, Object.getOwnPropertyDescriptors(owner[name]));
  owner[name] = replacement;
}

function noteNew(name, set, repeats) {
  const make = globalThis[name];
  replace(globalThis, name, function (...values) {
    const callback = values[0];
    if (typeof callback !== 'function') return apply(make, this, values); // it says what is wrong
    values[0] = function (...given) {
      if (!repeats) remove(set, timer);
      return apply(callback, this, given);
    };
    const timer = apply(make, this, values);
    add(set, timer);
    return timer;
  });
}

function noteCleared(name, set) {
  const clear = globalThis[name];
  replace(globalThis, name, function (timer) {
    if (typeof timer === 'object') remove(set, timer);
    return apply(clear, this, [timer]);
  });
}

/** AbortSignal.timeout keeps its timer to itself. */
function timeoutSignal(setTimeout, delay) {
  const controller = new AbortController();
  const abort = () => controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
  unrefTimer(setTimeout(abort, delay));
  return controller.signal;
}

/** From now on notice timers. */
export function watchTimers() {
  noteNew('setTimeout', timers, false);
  noteNew('setInterval', timers, true);
  noteNew('setImmediate', immediates, false);
  noteCleared('clearTimeout', timers);
  noteCleared('clearInterval', timers);
  noteCleared('clearImmediate', immediates);
  const { setTimeout } = globalThis;
  replace(AbortSignal, 'timeout', (delay) => timeoutSignal(setTimeout, delay));
}

/** Stop every timer that is left. */
export function stopTimers() {
  if (timers.size > 0) {
    each(timers, (timer) => clearTimeout(timer));
    forget(timers);
  }
  if (immediates.size > 0) {
    each(immediates, (immediate) => clearImmediate(immediate));
    forget(immediates);
  }
}
