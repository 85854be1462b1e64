// The console. Each call of one of its methods becomes one log frame, worded by Deno's own Console, with the method's name before it:
// Fluxbase contract 3.5.

import { apply, slice } from './captured.js';

const { Console } = Deno[Deno.internal];
const LEVELS = { log: 0, info: 0, debug: 0, warn: 1, error: 2 };
const COUNTED_AS = { trace: 'error', assert: 'error' };

/** Replace the methods of the global console; `log(level, text)` gets each entry. Returns what ends groups that a call left open. */
export function captureConsole(log) {
  let method = 'log';
  let text = '';
  const own = new Console((piece) => (text += piece));
  const wrap = (name, write) => {
    const counted = name in LEVELS ? name : (COUNTED_AS[name] ?? 'log');
    return (...values) => {
      const outer = [method, text];
      method = counted;
      text = '';
      try {
        apply(write, own, values);
        if (text !== '') log(LEVELS[method], `console.${method}: ${slice(text, 0, -1)}`);
      } finally {
        [method, text] = outer;
      }
    };
  };
  for (const name of Object.keys(own)) if (typeof own[name] === 'function' && name in console) console[name] = wrap(name, own[name]);
  return () => {
    own.indentLevel = 0;
  };
}
