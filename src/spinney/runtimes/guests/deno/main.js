// The half of the Deno runtime that runs inside a sandbox: it takes calls from the channel one at a time, runs the handler and answers.
// While there is no call it blocks in read(2).

import { apply, decode, parse, Promise, slice, subarray, byteLength } from './captured.js';
import { frame, giveUp, kinds, readU32, receive, sendLog, sendReady, sendResult } from './channel.js';
import { describe, outcomes } from './failure.js';
import { load, LoadFailure } from './loader.js';
import { captureConsole } from './output.js';
import { checkSize, encode } from './reply.js';
import { makeRequest } from './request.js';

const { core } = Deno[Deno.internal];
const { getAsyncContext, setAsyncContext } = core;
const { setImmediate } = globalThis;
const CALL = Symbol('call');

let settings = null;
let handler = null;
let running = null;
let endGroups;

class Call {
  constructor(number, id) {
    this.number = number;
    this.id = id;
    this.logBytesLeft = settings.log_bytes;
    this.context = { __proto__: null, [CALL]: this };
  }
}

/** Answer a call, once; then wait for the next. */
function answer(call, outcome, meta, body) {
  if (running !== call) return;
  running = null;
  sendResult(call.number, outcome, meta, body);
  setImmediate(serve);
}

function fail(call, outcome, error) {
  answer(call, outcome, '', describe(error));
}

function currentCall() {
  return getAsyncContext()?.[CALL];
}

/** Send one entry of console output, when it was written on behalf of the running call. */
function log(level, text) {
  const call = currentCall();
  if (call === undefined || call !== running || call.logBytesLeft < 0) return;
  // One more than the host keeps, so that it knows that there was more.
  const kept = text.length > call.logBytesLeft ? slice(text, 0, call.logBytesLeft + 1) : text;
  call.logBytesLeft -= byteLength(kept) + 1;
  sendLog(call.number, level, kept);
}

async function perform(call, request) {
  try {
    if (handler === null) handler = await load(settings.source);
    if (handler instanceof LoadFailure) {
      answer(call, handler.outcome, '', handler.text);
      return;
    }
    const value = await apply(handler.call, handler.owner, [request]);
    if (running !== call) return;
    let reply;
    try {
      reply = encode(value);
      if (reply instanceof Promise) reply = await reply;
    } catch (error) {
      fail(call, outcomes.BAD_RESULT, error);
      return;
    }
    const outcome = checkSize(reply, settings.result_bytes);
    answer(call, outcome, reply.meta, reply.body);
  } catch (error) {
    fail(call, outcomes.FAILED, error);
  }
}

function beginCall() {
  const { data, from, to, call: number } = frame;
  const idEnd = from + 12 + readU32(data, from + 4);
  const bodyFrom = idEnd + readU32(data, from + 8);
  const call = new Call(number, decode(subarray(data, from + 12, idEnd)));
  running = call;
  endGroups();
  setAsyncContext(call.context);
  perform(call, makeRequest(idEnd, bodyFrom, to));
  setAsyncContext(undefined);
}

function configure() {
  settings = parse(decode(subarray(frame.data, frame.from, frame.to)));
}

/** Take the next call; a load on the way is noted. */
function serve() {
  try {
    receive();
    if (frame.kind === kinds.WARM) {
      sendReady(Deno.version.deno);
      setImmediate(serve);
      return;
    }
    if (frame.kind === kinds.LOAD) {
      configure();
      receive();
    }
    if (frame.kind !== kinds.INVOKE) giveUp();
    beginCall();
  } catch {
    giveUp(); // not the handler's doing: its errors end in perform
  }
}

function failRunning(error) {
  if (running !== null) fail(running, outcomes.FAILED | outcomes.UNUSABLE, error);
}

endGroups = captureConsole(log);
globalThis.addEventListener('error', (event) => {
  event.preventDefault();
  failRunning(event.error);
});
globalThis.addEventListener('unhandledrejection', (event) => {
  event.preventDefault();
  failRunning(event.reason);
});
setInterval(() => {}, 2 ** 30); // a promise that never settles must run into its timeout, not end the process
Deno.permissions.revokeSync({ name: 'ffi' });
sendReady(Deno.version.deno);
setImmediate(serve);
