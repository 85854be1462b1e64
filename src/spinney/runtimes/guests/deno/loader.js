// From a source text to a handler: Fluxbase contract 3.1 and 3.2. The text becomes a module of its own by a blob: URL, which needs no
// permission and no file.

import { indexOf, Number, Reflect, replace, slice, String, uncurry } from './captured.js';
import { describe, outcomes } from './failure.js';
import nodeModule from 'node:module';

const { Blob, SyntaxError } = globalThis;
const { stripTypeScriptTypes } = nodeModule;
const { createObjectURL, revokeObjectURL } = URL;
const { randomUUID } = crypto;
const newId = randomUUID.bind(crypto);
const bind = uncurry(Function.prototype.bind);
const match = uncurry(String.prototype.match);
const split = uncurry(String.prototype.split);

const NO_HANDLER = "Error: No handler function found. Export a 'handler', 'default', or 'main' function.";
const DETAILS = /\s+at $|\n {2}\|\n[^]*$|\n {4}0: [^]*$/;
const PARSER = 'TypeError: SyntaxError: ';

/** A load that failed, as the answer to the calls that wanted it. */
export class LoadFailure {
  constructor(outcome, text) {
    this.outcome = outcome;
    this.text = text;
  }
}

/**
 * What is put behind the source: an export that reads top-level bindings, exported or not. It begins with a word that continues nothing,
 * so it cannot complete what the source left open; its own name is one that the source cannot contain.
 */
function epilogue(name) {
  const read = (binding) => `${binding}: () => typeof ${binding} === 'undefined' ? undefined : ${binding}`;
  return `\nexport const ${name} = { ${read('handler')}, ${read('main')} };\n`;
}

/** Whether a module could not even be compiled; then none of it has run. */
function isUncompiled(error, url) {
  try {
    const { message } = error;
    return slice(message, 0, 13) === 'SyntaxError: ' || (error instanceof SyntaxError && indexOf(message, ` at ${url}:`) !== -1);
  } catch {
    return false;
  }
}

/** The text in quotes at a place of the source; null when there is none. */
function readSpecifier(source, line, column) {
  const text = slice(split(source, '\n')[line - 1] ?? '', column - 1);
  return match(text, /^(["'])(.+?)\1/)?.[2] ?? null;
}

/** The message of an error that came up while loading: without what only names our blob, but with the import that is meant. */
function describeLoad(error, url, source) {
  const plain = describe(error);
  const at = indexOf(plain, url);
  const text = replace(at === -1 ? plain : slice(plain, 0, at), DETAILS, '');
  if (slice(text, 0, PARSER.length) === PARSER) return slice(text, 11);
  const place = at === -1 ? null : match(slice(plain, at + url.length), /^:(\d+):(\d+)/);
  const specifier = place === null ? null : readSpecifier(source, Number(place[1]), Number(place[2]));
  if (specifier === null || indexOf(text, specifier) !== -1) return text;
  return replace(text, ': ', () => `: Cannot import "${specifier}": `);
}

/** TypeScript with its types blanked out, every place kept; null when that does not do. */
function blank(source) {
  try {
    return stripTypeScriptTypes(source);
  } catch {
    return null;
  }
}

async function importAs(type, source, name) {
  const url = createObjectURL(new Blob([source, epilogue(name)], { type }));
  try {
    return { module: await import(url) };
  } catch (error) {
    return { text: describeLoad(error, url, source), uncompiled: isUncompiled(error, url) };
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
  if (typeof module.handler === 'function') return module.handler;
  const { default: usual } = module;
  if (typeof usual === 'function') return usual;
  if (typeof usual === 'object' && usual !== null && typeof usual.fetch === 'function') return bind(usual.fetch, usual);
  for (const name of ['handler', 'main']) {
    const value = name in module ? module[name] : readBinding(bindings[name], name);
    if (typeof value === 'function') return value;
  }
  return new LoadFailure(outcomes.NO_HANDLER, NO_HANDLER);
}

/** JavaScript is tried first: as TypeScript it may mean something else. Deno's own translation comes last, for it is slow at first. */
async function importSource(source, name) {
  const asScript = await importAs('text/javascript', source, name);
  if (!asScript.uncompiled) return asScript;
  const blanked = blank(source);
  const asBlanked = blanked === null ? null : await importAs('text/javascript', blanked, name);
  if (asBlanked !== null && !asBlanked.uncompiled) return asBlanked;
  const translated = await importAs('application/typescript', source, name);
  // An open comment swallows what is put behind the source, and that translation does not mind.
  return translated.module === undefined || name in translated.module ? translated : asScript;
}

/** Load a source and find its handler, or a LoadFailure. */
export async function load(source) {
  const name = `spinney_${replace(newId(), /-/g, '_')}`;
  const { module, text } = await importSource(source, name);
  if (module === undefined) return new LoadFailure(outcomes.NOT_LOADED | outcomes.UNUSABLE, text);
  try {
    return findHandler(module, module[name]);
  } catch (error) {
    return new LoadFailure(outcomes.NOT_LOADED | outcomes.UNUSABLE, describe(error));
  }
}
