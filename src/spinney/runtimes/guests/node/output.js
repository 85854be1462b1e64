'use strict';
// Where text goes. console.* becomes log frames, one for a call, worded by Node's own Console; process.stdout and process.stderr write
// at once, so that nothing is lost at an exit and nothing surfaces in a later call.

const { Console } = require('node:console');
const { Writable } = require('node:stream');
const { uncurry, writeAll } = require('./channel.js');

const { apply } = Reflect;
const slice = uncurry(String.prototype.slice);

const levels = { INFO: 0, WARN: 1, ERROR: 2 };

/** Replace the methods of the global console; `log(level, text)` gets each entry. Returns what ends groups that a call left open. */
function captureConsole(log) {
  let stderrLevel = levels.WARN;
  let groups = 0;
  const sink = (levelOf) => ({ write: (text) => log(levelOf(), slice(text, 0, -1)) });
  const own = new Console({
    stdout: sink(() => levels.INFO),
    stderr: sink(() => stderrLevel),
    ignoreErrors: false,
    colorMode: false,
  });
  const { error, group, groupEnd } = own;
  own.error = (...values) => {
    stderrLevel = levels.ERROR;
    try {
      apply(error, own, values);
    } finally {
      stderrLevel = levels.WARN;
    }
  };
  own.group = own.groupCollapsed = (...labels) => {
    groups++;
    apply(group, own, labels);
  };
  own.groupEnd = () => {
    if (groups > 0) groups--;
    groupEnd();
  };
  for (const name of Object.keys(own)) if (typeof own[name] === 'function' && name in console) console[name] = own[name];
  return () => {
    while (groups > 0) own.groupEnd();
  };
}

function synchronousStream(fd) {
  const stream = new Writable({
    decodeStrings: true,
    write(chunk, _encoding, done) {
      try {
        writeAll(fd, chunk, chunk.length);
      } catch (error) {
        return done(error);
      }
      return done();
    },
  });
  stream.fd = fd;
  stream._type = 'pipe';
  return stream;
}

/** Make process.stdout and process.stderr synchronous. */
function replaceStreams() {
  const names = { stdout: 1, stderr: 2 };
  for (const name of Object.keys(names)) {
    const stream = synchronousStream(names[name]);
    Object.defineProperty(process, name, { value: stream, configurable: true, enumerable: true, writable: true });
  }
}

module.exports = { captureConsole, replaceStreams, levels };
