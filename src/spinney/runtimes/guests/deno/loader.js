// From a source text to a handler: Fluxbase contract 3.1 and 3.2. The text becomes a module of its own by a blob: URL, which needs no
// permission and no file.

import { indexOf, Reflect, replace, slice } from './captured.js';
import { describe, outcomes } from './failure.js';

const { Blob } = globalThis;
const { createObjectURL, revokeObjectURL } = URL;
const { randomUUID } = crypto;
const newId = randomUUID.bind(crypto);

const NO_HANDLER = "Error: No handler function found. Export a 'handler', 'default', or 'main' function.";
const PLACE = /\n    at [^]*$| at blob:\S*$|\n  \|\n[^]*$/;
const PARSER = 'TypeError: SyntaxError: ';

/** A load that failed, as the answer to the calls that wanted it. */
export class LoadFailure {
  constructor(outcome, text) {
    this.outcome = outcome;
    this.text = text;
  }
}

/**
 * What is put behind the source: an export that reads top-level bindings of those names, exported or not. It begins with a word that
 * continues nothing, so it cannot complete what the source left open, and its own name is one that the source does not contain.
 */
function epilogue(name) {
  const read = (binding) => `${binding}: () => typeof ${binding} === 'undefined' ? undefined : ${binding}`;
  return `\nexport const ${name} = { ${read('handler')}, ${read('main')} };\n`;
}

/** The message of an error that came up while loading, without the place when that is only our blob's. */
function describeLoad(error) {
  const text = replace(describe(error), PLACE, '');
  return slice(text, 0, PARSER.length) === PARSER ? slice(text, 11) : text;
}

/** Whether a module could not even be compiled; then none of it has run. */
function isSyntaxError(error, url) {
  try {
    const { message } = error;
    return slice(message, 0, 13) === 'SyntaxError: ' || (error instanceof SyntaxError && indexOf(message, ` at ${url}:`) >= 0);
  } catch {
    return false;
  }
}

async function importAs(type, text) {
  const url = createObjectURL(new Blob([text], { type }));
  try {
    return { module: await import(url) };
  } catch (error) {
    return { error, compiled: !isSyntaxError(error, url) };
  } finally {
    revokeObjectURL(url);
  }
}

/** What a top-level binding holds; a global of the same name is none. */
function readBinding(read, name) {
  const global = Reflect.getOwnPropertyDescriptor(globalThis, name);
  if (global === undefined || !Reflect.deleteProperty(globalThis, name)) return read();
  try {
    return read();
  } finally {
    Reflect.defineProperty(globalThis, name, global);
  }
}

function findHandler(module, bindings) {
  if (typeof module.handler === 'function') return { owner: undefined, call: module.handler };
  const { default: usual } = module;
  if (typeof usual === 'function') return { owner: undefined, call: usual };
  if (typeof usual === 'object' && usual !== null && typeof usual.fetch === 'function') return { owner: usual, call: usual.fetch };
  for (const name of ['handler', 'main']) {
    const value = name in module ? module[name] : readBinding(bindings[name], name);
    if (typeof value === 'function') return { owner: undefined, call: value };
  }
  return new LoadFailure(outcomes.NO_HANDLER, NO_HANDLER);
}

/** Load a source and find its handler: {owner, call}, or a LoadFailure. JavaScript is tried first: it is not the same in TypeScript. */
export async function load(source) {
  const name = `spinney_${replace(newId(), /-/g, '_')}`;
  const text = source + epilogue(name);
  let result = await importAs('text/javascript', text);
  if (result.compiled === false) result = await importAs('application/typescript', text);
  const { module, error } = result;
  if (module === undefined) return new LoadFailure(outcomes.NOT_LOADED | outcomes.UNUSABLE, describeLoad(error));
  try {
    return findHandler(module, module[name]);
  } catch (thrown) {
    return new LoadFailure(outcomes.NOT_LOADED | outcomes.UNUSABLE, describe(thrown));
  }
}
