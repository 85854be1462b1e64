'use strict';
// The compiler's half that runs inside a sandbox: it takes sources from the channel one at a time and answers with what came of each.
// Nobody's code is run here, and nothing is carried from one build to the next.

const { Channel, kinds, readU32, exit, LOST_CHANNEL } = require('../node/channel.js');
const { Compiler } = require('./compiler.js');

const CHANNEL_FD = 3;
const PACKAGES = process.argv[2];
const INVOKE_FIXED = 12;
const OK = 0;
const UNUSABLE = 0x80;
const TEXT_BYTES = 65536;
const MODULE_BYTES = 16 * 1048576;
const RESIDENT_BYTES = 640 * 1048576; // beyond it a big source has left the next one too little of the sandbox's memory

const WARM_UP = [
  'import { JSON } from "json-as";\n@json class Warm { up: i32 = 0; names: string[] = []; }\n'
    + 'export function handle(input: string): string {\n'
    + '  const counts = JSON.parse<Map<string, i32>>("{}");\n'
    + '  console.log(JSON.stringify(counts) + Date.now().toString());\n'
    + '  return JSON.stringify(JSON.parse<Warm>(input));\n}\n',
  'export function handle(input: string): string { return input; }',
];

const channel = new Channel(CHANNEL_FD);

/** The first bytes of a text that make whole characters. */
function cut(text, bytes) {
  const all = Buffer.from(text.toWellFormed());
  let end = Math.min(all.length, bytes);
  while (end < all.length && (all[end] & 0xc0) === 0x80) end -= 1;
  return all.subarray(0, end);
}

function answer(call, { kind, content }) {
  if (kind === 'module' && content.length > MODULE_BYTES) {
    kind = 'diagnostics';
    content = `Module is too large: ${content.length} bytes (limit ${MODULE_BYTES})`;
  }
  const body = kind === 'module' ? content : cut(content, TEXT_BYTES);
  const spent = kind === 'crash' || process.memoryUsage.rss() > RESIDENT_BYTES;
  channel.sendBytes(call, spent ? OK | UNUSABLE : OK, `{"kind":"${kind}"}`, body);
}

function readSource({ data, from, to }) {
  const start = from + INVOKE_FIXED + readU32(data, from + 4) + readU32(data, from + 8);
  return data.toString('utf8', start, to);
}

async function main() {
  const compiler = new Compiler(PACKAGES);
  await compiler.load();
  channel.sendReady(compiler.asc.version);
  for (;;) {
    const frame = channel.receive();
    const { kind, call } = frame;
    if (kind === kinds.WARM) {
      for (const source of WARM_UP) await compiler.compile(source);
      channel.sendReady(compiler.asc.version);
    } else if (kind === kinds.INVOKE) {
      answer(call, await compiler.compile(readSource(frame)));
    } else {
      exit(LOST_CHANNEL);
    }
  }
}

main().catch(() => exit(LOST_CHANNEL));
