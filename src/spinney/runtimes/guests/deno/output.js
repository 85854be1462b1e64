// The console. Each call of one of its methods becomes one entry, worded by Deno's own Console, with the method's name before it:
// Fluxbase contract 3.5.

import { apply, Error, indexOf, Object, slice } from './captured.js';

const LEVELS = { __proto__: null, log: 0, info: 0, debug: 0, warn: 1, error: 2 };
const { captureStackTrace } = Error;

/**
 * Replace the methods of the global console; `Console` is Deno's, `log(level, text)` gets each entry. Returns what ends groups that a call
 * left open.
 */
export function captureConsole(Console, log) {
  let text = '';
  const own = new Console((piece) => {
    text += piece;
  });
  let groups = 0;
  const endGroups = () => {
    for (; groups > 0; groups--) own.groupEnd(); // more often than needed does no harm
  };
  /** What a method writes, without the end of its last line; undefined for nothing. */
  const wording = (write, values) => {
    const outer = text;
    text = '';
    try {
      apply(write, own, values);
      return text === '' ? undefined : slice(text, 0, -1);
    } finally {
      text = outer;
    }
  };
  const replaceMethod = (name, method, write) => {
    console[name] = (...values) => {
      const written = wording(write, values);
      if (written !== undefined) log(LEVELS[method], `console.${method}: ${written}`);
    };
  };
  for (const name of Object.keys(own)) {
    if (typeof own[name] === 'function') replaceMethod(name, name in LEVELS ? name : name === 'assert' ? 'error' : 'log', own[name]);
  }
  for (const name of ['group', 'groupCollapsed']) {
    const open = console[name];
    console[name] = (...labels) => {
      groups++;
      apply(open, console, labels);
    };
  }
  console.clear = endGroups;
  console.trace = (...values) => {
    const place = {};
    captureStackTrace(place, console.trace);
    const { stack } = place;
    const lines = indexOf(stack, '\n');
    log(LEVELS.error, `console.error: Trace: ${wording(own.log, values)}${lines === -1 ? '' : slice(stack, lines)}`);
  };
  return endGroups;
}
