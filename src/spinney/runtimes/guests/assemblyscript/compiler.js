'use strict';
// One build: the source goes in and the module or the diagnostics come out, all in memory.

const { join } = require('node:path');
const { readLibrary } = require('./library.js');
const { Transforms } = require('./transform.js');

const ENTRY = 'module.ts';
const OUTPUT = 'module.wasm';
const ARGUMENTS = [
  ENTRY, '--outFile', OUTPUT, '--optimize', '--exportRuntime', '--runtime', 'incremental', '--noColors', '--disableWarning',
];
const OVERFLOW = 'Maximum call stack size exceeded';
const REASON = /^▌ (?:> )?(\w*(?:Error|Exception|error).*|> .*)$/m; // in what asc prints when it has crashed
const REASON_CHARACTERS = 500;

/** The compiler itself has failed: thrown where it would have ended the process. */
class Crash extends Error {}

/** What a build came to: `kind` is 'module' with bytes, or 'diagnostics' or 'crash' with a text. */
class Result {
  constructor(kind, content) {
    this.kind = kind;
    this.content = content;
  }
}

class Compiler {
  constructor(packages) {
    this.packages = packages;
    this.library = readLibrary(packages);
    this.transforms = new Transforms(join(packages, 'json-as/transform/lib/index.js'));
    this.said = '';
    console.error = (text) => { this.said = String(text); };
    process.exit = () => { throw new Crash(REASON.exec(this.said)?.[1] ?? 'unknown'); };
  }

  async load() {
    this.asc = await import(join(this.packages, 'assemblyscript/dist/asc.js'));
    await this.transforms.load(this.packages);
  }

  async compile(source) {
    const output = { module: null, text: '' };
    try {
      const { error } = await this.asc.main(ARGUMENTS, {
        stdout: { write() {} },
        stderr: { write: (text) => { output.text += text; } },
        transforms: [await this.transforms.make()],
        readFile: (name) => (name === ENTRY ? source : this.library.get(name) ?? null),
        writeFile: (name, content) => { output.module = content; },
        listFiles: () => [],
      });
      if (error === null && output.module !== null) return new Result('module', output.module);
      return this.failure(error, output.text);
    } catch (error) {
      return new Result('crash', this.reason(error));
    }
  }

  /** A build that ended with an error: the compiler's own text, whose last part is the error with its stack. */
  failure(error, text) {
    if (error?.message?.includes(OVERFLOW)) return new Result('crash', this.reason(error));
    const diagnostics = text.slice(0, Math.max(0, text.lastIndexOf('FAILURE ')));
    return new Result('diagnostics', `${diagnostics}FAILURE ${this.clean(error?.message ?? 'no output')}`);
  }

  reason(error) {
    const text = error instanceof Crash ? error.message : `${error?.name ?? 'Error'}: ${error?.message ?? error}`;
    return this.clean(text.split('\n', 1)[0].slice(0, REASON_CHARACTERS));
  }

  /** Without a path of this sandbox: an exception of the compiler's own may name one. */
  clean(text) {
    return text.replaceAll(`file://${this.packages}/`, '').replaceAll(`${this.packages}/`, '').trimEnd();
  }
}

module.exports = { Compiler };
