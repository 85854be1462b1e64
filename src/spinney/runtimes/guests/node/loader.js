'use strict';
// From a file in the task directory to a handler: Impuls contract 3.2 and 3.3.

const { readFileSync } = require('node:fs');
const Module = require('node:module');
const { join } = require('node:path');
const { pathToFileURL } = require('node:url');
const vm = require('node:vm');
const { describe, outcomes } = require('./values.js');

const WRAPPER = ['exports', 'require', 'module', '__filename', '__dirname'];
const DECLARATION = /^(Cannot use import statement outside a module|Unexpected token 'export')/;

const IMPORT_AS_USUAL = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER; // Node 18 has none

/** A load that failed, as the answer to the calls that wanted it. */
class LoadFailure {
  constructor(outcome, text) {
    this.outcome = outcome;
    this.text = text;
  }
}

/** What the parser says about a text as the body of a function, or null. */
function syntaxError(source, isAsync) {
  try {
    if (isAsync) new vm.Script(`(async function () {${source}\n})`);
    else vm.compileFunction(source);
    return null;
  } catch (error) {
    return error.message;
  }
}

/** Whether a source that does not compile as CommonJS fails because of import or export declarations or top-level await. */
function isModule(source) {
  // import.meta and names such as `const require` are errors of their own, and may come before the declaration that matters.
  const text = source.replace(/\bimport\s*\.\s*meta\b/g, 'import_meta');
  const plain = syntaxError(text, false);
  if (plain === null) return false;
  if (DECLARATION.test(plain)) return true;
  const awaiting = syntaxError(text, true);
  return awaiting === null || DECLARATION.test(awaiting);
}

/** The function around a CommonJS source; null when it is an ES module. Throws SyntaxError. */
function compile(source, filename) {
  try {
    return vm.compileFunction(source, WRAPPER, { filename, importModuleDynamically: IMPORT_AS_USUAL });
  } catch (error) {
    if (isModule(source)) return null;
    throw error;
  }
}

function runCommonJs(wrapper, source, filename, directory) {
  const module = new Module(filename, null);
  module.filename = filename;
  module.paths = Module._nodeModulePaths(directory);
  Module._cache[filename] = module;
  if (IMPORT_AS_USUAL === undefined) {
    module._compile(source, filename); // only so import() works there; the wrapper has shown that it compiles
  } else {
    Reflect.apply(wrapper, module.exports, [module.exports, Module.createRequire(filename), module, filename, directory]);
  }
  module.loaded = true;
  return module.exports;
}

function member(owner, name) {
  if (owner === null || owner === undefined) return undefined;
  const value = owner[name];
  return value === Object.prototype[name] ? undefined : value;
}

/** The function that a dotted path leads to, with the object it is a method of; LoadFailure when there is none. */
function findHandler(exports, path) {
  let owner;
  let value = exports;
  const names = path.split('.');
  for (const name of names) {
    owner = value;
    value = member(owner, name);
  }
  if (typeof value === 'function') return { owner, call: value };
  const last = member(exports, names[names.length - 1]);
  if (typeof last === 'function') return { owner: exports, call: last };
  return new LoadFailure(outcomes.NO_HANDLER, path);
}

/**
 * Load a file, or its namesake .mjs, and find its handler: {owner, call}, or a LoadFailure. Only a module that ran and threw makes
 * the process unusable.
 */
async function load(directory, file, exportPath) {
  const filename = join(directory, file);
  let source;
  let wrapper;
  try {
    source = readFileSync(filename, 'utf8').replace(/^\uFEFF?(#!.*)?/, '');
    wrapper = compile(source, filename);
  } catch (error) {
    return new LoadFailure(outcomes.NOT_LOADED, describe(error));
  }
  try {
    const url = pathToFileURL(filename.replace(/\.js$/, '.mjs')).href;
    const exports = wrapper === null ? await import(url) : runCommonJs(wrapper, source, filename, directory);
    return findHandler(exports, exportPath);
  } catch (error) {
    return new LoadFailure(outcomes.NOT_LOADED | outcomes.UNUSABLE, describe(error));
  }
}

module.exports = { load, LoadFailure };
