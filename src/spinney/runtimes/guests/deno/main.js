// The half of the Deno runtime that runs inside a sandbox: it takes calls from the channel one at a time, runs the handler and answers.
// While there is no call it blocks in read(2). A call ends for good with its answer: its timers are stopped, and when anything else of it
// is still under way the sandbox is not to be used again.

import { byteLength, decode, encode, parse, Promise, setBytes, slice, subarray, takeInternals, uncurry, Uint8Array } from './captured.js';
import { kinds, openChannel, readU32 } from './channel.js';
import { openEnvironment } from './environment.js';
import { describe, outcomes } from './failure.js';
import { stopTimers, watchTimers } from './leftovers.js';
import { load, LoadFailure } from './loader.js';
import { captureConsole } from './output.js';
import { encodeReply, sizeOf } from './reply.js';
import { makeRequests } from './request.js';
import { replaceStorage } from './storage.js';
import * as warm from './warm.js';

const { core, Console } = takeInternals();
const { eventLoopHasMoreWork, getAsyncContext, isPromise, setAsyncContext } = core;
const { setImmediate } = globalThis;
const { refTimer, unrefTimer } = Deno;
const then = uncurry(Promise.prototype.then);
const resolve = Promise.resolve.bind(Promise);
const CALL = Symbol('call');

const channel = openChannel();
const environment = openEnvironment();
const { frame } = channel;
const makeRequest = makeRequests(frame);
const keepAlive = setInterval(() => {}, 2 ** 30); // a promise that never settles must run into its timeout, not end the process
const endGroups = captureConsole(Console, log);
let settings = null;
let handler = null;
let running = null;
let next = serve;

/** One call, and its answer once there is one. */
class Call {
  number = frame.call;
  logBytesLeft = settings.log_bytes;
  outcome = null;
  meta = '';
  body = '';
  context = { __proto__: null, [CALL]: this };
}

/** Send one entry of console output, unless it was written on behalf of a call that is over. */
function log(level, text) {
  const call = running;
  const owner = getAsyncContext()?.[CALL];
  if (call === null || call.outcome !== null || call.logBytesLeft < 0 || (owner !== undefined && owner !== call)) return;
  // One more than the host keeps, so that it knows that there was more.
  const kept = text.length > call.logBytesLeft ? slice(text, 0, call.logBytesLeft + 1) : text;
  call.logBytesLeft -= byteLength(kept) + 1;
  channel.sendLog(call.number, level, kept);
}

/** The answer of a call is known. The event loop turns once before it is given: a promise may have been rejected that nobody looks at. */
function settle(call, outcome, body, meta) {
  if (running !== call || call.outcome !== null) return;
  call.outcome = outcome;
  call.meta = meta;
  call.body = body;
  stopTimers();
  setImmediate(finish);
}

function finish() {
  const call = running;
  if (call === null) return;
  stopTimers();
  unrefTimer(keepAlive);
  if (eventLoopHasMoreWork()) call.outcome |= outcomes.UNUSABLE;
  refTimer(keepAlive);
  running = null;
  channel.sendResult(call.number, call.outcome, call.meta, call.body);
  if (call.outcome >= outcomes.UNUSABLE && !channel.mute) channel.park();
  next();
}

/** Something went wrong outside the handler: that is the answer, whatever was to be it, and nothing else runs here any more. */
function failRunning(message) {
  if (running === null) return;
  channel.sendResult(running.number, outcomes.FAILED | outcomes.UNUSABLE, '', message);
  channel.park();
}

function settleWith(call, reply) {
  if (sizeOf(reply.body) <= settings.result_bytes) return settle(call, outcomes.OK, reply.body, reply.meta);
  const message = `RangeError: Function response too large (max ${settings.result_bytes} bytes)`;
  return settle(call, outcomes.TOO_LARGE, message, '');
}

function settleValue(call, value) {
  if (isPromise(value)) return waitFor(call, value); // of code that has put something else in the place of Promise.prototype.then
  const refuse = (error) => settle(call, outcomes.BAD_RESULT, describe(error), '');
  try {
    const reply = encodeReply(value);
    if (reply instanceof Promise) then(reply, (encoded) => settleWith(call, encoded), refuse);
    else settleWith(call, reply);
  } catch (error) {
    refuse(error);
  }
  return undefined;
}

function waitFor(call, promise) {
  then(
    promise,
    (value) => settleValue(call, value),
    (error) => settle(call, outcomes.FAILED, describe(error), ''),
  );
}

/** The handler is called by the promise itself: no function of the guest's is in the stacks that user code sees. */
function callHandler(call, request) {
  if (handler instanceof LoadFailure) settle(call, handler.outcome, handler.text, '');
  else waitFor(call, then(resolve(request), handler));
}

function perform(call, request) {
  if (handler !== null) {
    callHandler(call, request);
    return;
  }
  then(load(settings.source), (loaded) => {
    handler = loaded;
    callHandler(call, request);
  });
}

function beginCall() {
  const { data, from } = frame;
  const idEnd = from + 12 + readU32(data, from + 4);
  const call = new Call();
  running = call;
  environment.restore(subarray(data, from + 12, idEnd));
  endGroups();
  setAsyncContext(call.context);
  perform(call, makeRequest(idEnd, idEnd + readU32(data, from + 8)));
  setAsyncContext(undefined);
}

function configure(loaded) {
  settings = loaded;
  environment.configure(settings.environment);
}

/** Take the next call; a load on the way is noted. */
function serve() {
  try {
    channel.receive();
    if (frame.kind === kinds.WARM) {
      warmUp();
      return;
    }
    if (frame.kind === kinds.LOAD) {
      configure(parse(decode(subarray(frame.data, frame.from, frame.to))));
      channel.receive();
    }
    if (frame.kind !== kinds.INVOKE) channel.giveUp();
    beginCall();
  } catch {
    channel.giveUp(); // not the handler's doing
  }
}

/** Take the ways of a first call while nobody waits for one; what is sent meanwhile goes nowhere. */
function warmUp() {
  const body = encode(warm.BODY);
  const { data, from, to } = frame;
  channel.mute = true;
  frame.data = new Uint8Array(12 + body.length); // no id, no meta
  setBytes(frame.data, body, 12);
  frame.from = 0;
  frame.to = frame.data.length;
  settings = { source: warm.SOURCE, log_bytes: 1 << 20, result_bytes: 1 << 20 };
  next = () => {
    Object.assign(frame, { data, from, to });
    next = serve;
    settings = handler = null;
    channel.mute = false;
    ready();
  };
  beginCall();
}

function ready() {
  channel.sendReady(Deno.version.deno);
  setImmediate(serve);
}

/** An error that nobody caught. It fails the running call, unless a listener of the function's own takes care of it. */
function noticeUncaught(event, error) {
  let handled = false;
  event.preventDefault();
  event.preventDefault = () => {
    handled = true;
  };
  then(resolve(), () => handled || failRunning(describe(error)));
}

/** Give up what only the guest needs, and hear of whatever goes wrong; then the first user code may come. */
function start() {
  globalThis.addEventListener('error', (event) => noticeUncaught(event, event.error));
  globalThis.addEventListener('unhandledrejection', (event) => noticeUncaught(event, event.reason));
  globalThis.addEventListener('unload', () => failRunning(`Error: Function exited with code ${Deno.exitCode}`));
  watchTimers();
  replaceStorage();
  Deno.permissions.revokeSync({ name: 'ffi' });
  ready();
}

start();
