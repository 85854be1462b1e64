'use strict';
// json-as's transform, new for every build. It keeps schemas, aliases and its mode in its modules, and what it has seen of one source
// must not reach the next; the compiler itself, which keeps nothing, is loaded once and shared by all.

const { readFileSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { pathToFileURL } = require('node:url');
const vm = require('node:vm');

/** A module of Node's own loader as one that others can be linked to. */
async function share(specifier, namespace) {
  const names = Object.keys(namespace);
  const module = new vm.SyntheticModule(names, () => {
    for (const name of names) module.setExport(name, namespace[name]);
  }, { identifier: specifier });
  await module.link(() => {});
  await module.evaluate();
  return module;
}

class Transforms {
  /** `shared` maps a specifier to the namespace that all builds have in common. */
  constructor(entry) {
    this.entry = entry;
    this.shared = new Map();
    this.texts = new Map(); // path to { source, cachedData }
  }

  async load(packages) {
    const outside = {
      'assemblyscript/dist/assemblyscript.js': await import(join(packages, 'assemblyscript/dist/assemblyscript.js')),
      'assemblyscript/dist/transform.js': await import(join(packages, 'assemblyscript/dist/transform.js')),
      fs: await import('node:fs'),
      path: await import('node:path'),
      url: await import('node:url'),
    };
    for (const [specifier, namespace] of Object.entries(outside)) {
      this.shared.set(specifier, await share(specifier, namespace));
    }
  }

  /** The class that the compiler takes as a transform, out of modules that nobody has used. */
  async make() {
    const made = new Map();
    const link = (specifier, from) => {
      const shared = this.shared.get(specifier);
      return shared ?? this.module(join(dirname(from.identifier), specifier), made);
    };
    const entry = this.module(this.entry, made);
    await entry.link(link);
    await entry.evaluate();
    return entry.namespace.default;
  }

  module(path, made) {
    let module = made.get(path);
    if (module === undefined) {
      const text = this.text(path);
      module = new vm.SourceTextModule(text.source, {
        identifier: path,
        cachedData: text.cachedData,
        initializeImportMeta: (meta) => { meta.url = pathToFileURL(path).href; },
      });
      text.cachedData ??= module.createCachedData();
      made.set(path, module);
    }
    return module;
  }

  text(path) {
    let text = this.texts.get(path);
    if (text === undefined) this.texts.set(path, text = { source: readFileSync(path, 'utf8'), cachedData: undefined });
    return text;
  }
}

module.exports = { Transforms };
