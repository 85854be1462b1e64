'use strict';
// The files that a source may import, in memory: json-as under its name, and what json-as itself needs where only json-as finds it.
// The compiler asks for nothing else, and whatever it asks for that is not here does not exist.

const { readdirSync, readFileSync } = require('node:fs');
const { join } = require('node:path');

const SOURCE = /\.ts$/;

/** Put every source below a directory into `files`, as if it lay below `place`. */
function add(files, directory, place) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) add(files, path, `${place}/${entry.name}`);
    else if (SOURCE.test(entry.name)) files.set(`${place}/${entry.name}`, readFileSync(path, 'utf8'));
  }
}

/** Path, as the compiler asks for it, to text. */
function readLibrary(packages) {
  const files = new Map();
  add(files, join(packages, 'json-as'), 'node_modules/json-as');
  add(files, join(packages, 'xjb-as'), 'node_modules/json-as/node_modules/xjb-as');
  return files;
}

module.exports = { readLibrary };
