'use strict';
// The half of the Node.js runtime that runs inside a sandbox: it takes calls from the channel one at a time, runs the handler and
// answers. While there is no call it blocks in read(2); between two calls the event loop gets exactly one turn.

const { AsyncLocalStorage } = require('node:async_hooks');
const { openSync, closeSync } = require('node:fs');
const Module = require('node:module');
const { join } = require('node:path');
const { Channel, kinds, readU32, utf8Slice, latin1Slice, byteLength, uncurry, exit, LOST_CHANNEL } = require('./channel.js');
const environment = require('./environment.js');
const { load, LoadFailure } = require('./loader.js');
const { captureConsole, replaceStreams } = require('./output.js');
const { encode, describe, outcomes } = require('./values.js');
const { setFlagsFromString } = require('node:v8');

const CHANNEL_FD = 3;
const TASK = process.cwd(); // /var/task: the code lies where the process was started
const WARM_UP_CALLS = 2;
const TASK_FILE = /^[^/]+$/;

const { parse } = JSON;
const { setImmediate, Promise } = globalThis;
const { floor } = Math;
const { apply } = Reflect;
const now = performance.now.bind(performance);
const today = Date.now;
const sliceText = uncurry(String.prototype.slice);
const calls = new AsyncLocalStorage();
// Its own copies: Node calls some of them from others, and user code may patch the prototype.
for (const name of Object.getOwnPropertyNames(AsyncLocalStorage.prototype)) calls[name] = calls[name];

let channel;
let settings = null;
let handler = null;
let running = null;
let day = 0;
let date = '';
let endGroups;
let next = serve;

class Call {
  constructor(number, id, timeoutMs) {
    this.number = number;
    this.id = id;
    this.timeoutMs = timeoutMs;
    this.startedAt = now();
    this.logBytesLeft = settings.log_bytes;
  }
}

/** Answer a call, once; then let the event loop turn and wait for the next, unless this process is not fit for one. */
function answer(call, outcome, text) {
  if (running !== call) return;
  running = null;
  channel.sendResult(call.number, outcome, text);
  if ((outcome & outcomes.UNUSABLE) === 0) setImmediate(next);
}

/** Send one entry of console output, when it was written on behalf of the running call. */
function log(level, text) {
  const call = calls.getStore();
  if (call === undefined || call !== running || call.logBytesLeft < 0) return;
  // One more than the host keeps, so that it knows that there was more.
  const kept = text.length > call.logBytesLeft ? sliceText(text, 0, call.logBytesLeft + 1) : text;
  call.logBytesLeft -= byteLength(kept) + 1;
  channel.sendLog(call.number, level, kept);
}

/** An error that nobody caught: the running call's failure, unless it was left over from an earlier one. */
function failRunning(owner, error) {
  const call = running;
  if (call !== null && (owner === undefined || owner === call)) answer(call, outcomes.FAILED | outcomes.UNUSABLE, describe(error));
}

function utcDate() {
  const ms = today();
  if (floor(ms / 86400000) !== day) {
    day = floor(ms / 86400000);
    date = new Date(ms).toISOString().slice(0, 10);
  }
  return date;
}

/** The handler's second argument: Impuls contract 3.3. */
function makeContext(call) {
  return {
    functionName: settings.function,
    functionVersion: '$LATEST',
    memoryLimitInMB: settings.memory_mb,
    awsRequestId: call.id,
    getRemainingTimeInMillis: () => {
      const left = floor(call.timeoutMs - (now() - call.startedAt));
      return left > 0 ? left : 0;
    },
    logGroupName: settings.log_group,
    logStreamName: `${utcDate()}/${call.id}`,
    invokedFunctionArn: settings.arn,
    callbackWaitsForEmptyEventLoop: true,
  };
}

function ignoreCallback() {}

/** Call a handler that takes a callback: whichever comes first of the callback and what it returned. */
function callWithCallback(event, context) {
  return new Promise((resolve, reject) => {
    const settle = (error, value) => (error ? reject(error) : resolve(value));
    const returned = apply(handler.call, handler.owner, [event, context, settle]);
    if (typeof returned?.then === 'function') {
      returned.then((value) => value === undefined || resolve(value), reject);
    }
  });
}

function callHandler(event, context) {
  if (handler.call.length >= 3) return callWithCallback(event, context);
  return apply(handler.call, handler.owner, [event, context, ignoreCallback]);
}

async function perform(call, body) {
  let value;
  try {
    if (handler === null) handler = await load(TASK, settings.file, settings.exportPath);
    if (handler instanceof LoadFailure) return answer(call, handler.outcome, handler.text);
    value = await callHandler(parse(body), makeContext(call));
  } catch (error) {
    return answer(call, outcomes.FAILED, describe(error));
  }
  if (running !== call) return undefined;
  const result = encode(value, settings.result_bytes);
  return answer(call, result[0], result[1]);
}

function beginCall({ call: number, data, from, to }) {
  const idEnd = from + 12 + readU32(data, from + 4);
  const bodyStart = idEnd + readU32(data, from + 8);
  running = new Call(number, latin1Slice(data, from + 12, idEnd), readU32(data, from));
  environment.restore();
  endGroups();
  calls.run(running, perform, running, utf8Slice(data, bodyStart, to));
}

function configure({ data, from, to }) {
  settings = parse(utf8Slice(data, from, to));
  if (!TASK_FILE.test(settings.file)) exit(LOST_CHANNEL);
  settings.exportPath = settings.handler.replace(/^(?:[^]*\/)?[^/.]*\./, '');
  environment.configure(settings.environment);
  if (settings.memory_mb <= 1024) setFlagsFromString(`--heap-growing-percent=${settings.memory_mb <= 512 ? 30 : 60}`);
}

/** Take the next call; a load on the way is noted. */
function serve() {
  try {
    let frame = channel.receive();
    if (frame.kind === kinds.WARM) {
      warmUp().then(ready, () => exit(LOST_CHANNEL));
      return;
    }
    if (frame.kind === kinds.LOAD) {
      configure(frame);
      frame = channel.receive();
    }
    if (frame.kind !== kinds.INVOKE) exit(LOST_CHANNEL);
    beginCall(frame);
  } catch {
    exit(LOST_CHANNEL); // not the handler's doing: its errors end in perform
  }
}

/** Take the ways of a first call while nobody waits for one; what is sent meanwhile goes nowhere. */
async function warmUp() {
  const host = channel;
  const nowhere = openSync('/dev/null', 'r+');
  const frame = Buffer.from('\0\0\x01\0' + '\x04\0\0\0' + '\0\0\0\0' + 'warm' + '{"name":"you"}'); // timeout, lengths, id, body
  channel = new Channel(nowhere);
  settings = { function: 'warm', memory_mb: 0, log_bytes: 1 << 20, result_bytes: 1 << 20 };
  await load(join(__dirname, 'warm'), 'function.mjs', 'handler');
  handler = await load(join(__dirname, 'warm'), 'function.js', 'handler');
  for (let call = 1; call <= WARM_UP_CALLS; call++) {
    await new Promise((done) => {
      next = done;
      beginCall({ call, data: frame, from: 0, to: frame.length });
    });
  }
  closeSync(nowhere);
  next = serve;
  settings = handler = null;
  channel = host;
}

function ready() {
  for (const file of Object.keys(Module._cache)) delete Module._cache[file]; // user code sees its own modules only
  channel.sendReady(process.versions.node);
  setImmediate(serve);
}

function start() {
  const ownerOf = (promise) => (calls.kResourceStore === undefined ? calls.getStore() : promise[calls.kResourceStore]);
  process.on('uncaughtException', (error) => failRunning(calls.getStore(), error));
  process.on('unhandledRejection', (reason, promise) => failRunning(ownerOf(promise), reason));
  endGroups = captureConsole(log);
  replaceStreams();
  setInterval(() => {}, 2 ** 30); // a promise that never settles must run into its timeout, not end the process
  channel = new Channel(CHANNEL_FD);
  ready();
}

start();
