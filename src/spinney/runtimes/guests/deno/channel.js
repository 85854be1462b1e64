// The guest's end of the channel (docs/guest-channel.md). It reads and writes by plain system calls on a descriptor that no interface of
// Deno's can name: the process blocks while it is idle, and user code cannot reach the channel.

import { copyWithin, encode, encodeInto, Number, setBytes, subarray, Uint8Array } from './captured.js';

const CHANNEL_FD = 3;
const HEADER_BYTES = 9;
const BUFFER_BYTES = 65536;
const EINTR = 4;
const LOST_CHANNEL = 70; // exit code: the channel was closed or broken from the inside

export const kinds = { READY: 1, LOAD: 2, INVOKE: 3, RESULT: 4, LOG: 5, WARM: 10 };

const { read, write, _exit, __errno_location: errnoLocation } = Deno.dlopen('libc.so.6', {
  read: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  write: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  _exit: { parameters: ['i32'], result: 'void' },
  __errno_location: { parameters: [], result: 'pointer' },
}).symbols;
const errno = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(errnoLocation(), 4));

/** End the process at once: what is on the channel makes no sense. */
export function giveUp() {
  _exit(LOST_CHANNEL);
}

export function readU32(buffer, offset) {
  return (buffer[offset] | (buffer[offset + 1] << 8) | (buffer[offset + 2] << 16) | (buffer[offset + 3] << 24)) >>> 0;
}

function writeU32(buffer, offset, value) {
  buffer[offset] = value;
  buffer[offset + 1] = value >>> 8;
  buffer[offset + 2] = value >>> 16;
  buffer[offset + 3] = value >>> 24;
}

const inbox = new Uint8Array(BUFFER_BYTES);
const outbox = new Uint8Array(BUFFER_BYTES);
const outboxBody = { 5: subarray(outbox, HEADER_BYTES + 5), 1: subarray(outbox, HEADER_BYTES + 1) };
export const frame = { kind: 0, call: 0, data: inbox, from: 0, to: 0 };
let start = 0;
let end = 0;
let frames = 0;
let mute = false;

function readInto(buffer, offset, length) {
  for (;;) {
    const count = Number(read(CHANNEL_FD, offset === 0 ? buffer : subarray(buffer, offset), length));
    if (count > 0) return count;
    if (count === 0) _exit(0); // the host is done with this sandbox
    if (errno[0] !== EINTR) giveUp();
  }
}

function writeAll(buffer, size) {
  let written = 0;
  while (written < size && !mute) {
    const count = Number(write(CHANNEL_FD, written === 0 ? buffer : subarray(buffer, written), size - written));
    if (count > 0) written += count;
    else if (errno[0] !== EINTR) giveUp();
  }
}

/** Read until the inbox holds `size` unread bytes. */
function need(size) {
  if (end - start >= size) return;
  if (start === end) {
    start = end = 0;
  } else if (start + size > BUFFER_BYTES) {
    copyWithin(inbox, 0, start, end);
    end -= start;
    start = 0;
  }
  while (end - start < size) end += readInto(inbox, end, BUFFER_BYTES - end);
}

function receiveLarge(length) {
  const data = new Uint8Array(length);
  setBytes(data, subarray(inbox, start + HEADER_BYTES, end));
  let have = end - start - HEADER_BYTES;
  start = end = 0;
  while (have < length) have += readInto(data, have, length - have);
  frame.data = data;
  frame.from = 0;
  frame.to = length;
  return frame;
}

/** Block until a frame is complete. The frame returned is overwritten by the next call. */
export function receive() {
  frames++;
  need(HEADER_BYTES);
  const length = readU32(inbox, start);
  frame.call = readU32(inbox, start + 4);
  frame.kind = inbox[start + 8];
  if (HEADER_BYTES + length > BUFFER_BYTES) return receiveLarge(length);
  need(HEADER_BYTES + length);
  frame.data = inbox;
  frame.from = start + HEADER_BYTES;
  frame.to = start = frame.from + length;
  return frame;
}

/** How many frames have been received: what was in the last one is gone with the next. */
export function receivedFrames() {
  return frames;
}

function writeHeader(buffer, size, call, kind, code) {
  writeU32(buffer, 0, size - HEADER_BYTES);
  writeU32(buffer, 4, call);
  buffer[8] = kind;
  buffer[9] = code;
}

/** A frame whose payload is `lead` bytes (the first is `code`) and text: one write. */
function sendText(kind, call, lead, code, text) {
  let buffer = outbox;
  let size = HEADER_BYTES + lead;
  if (text.length * 3 + size <= BUFFER_BYTES) {
    size += encodeInto(text, outboxBody[lead]).written;
  } else {
    const bytes = encode(text);
    buffer = new Uint8Array(size + bytes.length);
    setBytes(buffer, bytes, size);
    size = buffer.length;
  }
  writeHeader(buffer, size, call, kind, code);
  if (lead === 5) writeU32(buffer, 10, 0);
  writeAll(buffer, size);
}

export function sendReady(version) {
  const text = encode(`{"version":"${version}"}`);
  const buffer = new Uint8Array(HEADER_BYTES + text.length);
  writeHeader(buffer, buffer.length, 0, kinds.READY, 0);
  setBytes(buffer, text, HEADER_BYTES);
  writeAll(buffer, buffer.length);
}

/** `meta`: text, mostly empty; `body`: text or bytes. */
export function sendResult(call, outcome, meta, body) {
  if (meta === '' && typeof body === 'string') return sendText(kinds.RESULT, call, 5, outcome, body);
  const head = encode(meta);
  const bytes = typeof body === 'string' ? encode(body) : body;
  const at = HEADER_BYTES + 5 + head.length;
  const size = at + bytes.length;
  const buffer = size <= BUFFER_BYTES ? outbox : new Uint8Array(size);
  writeHeader(buffer, size, call, kinds.RESULT, outcome);
  writeU32(buffer, 10, head.length);
  setBytes(buffer, head, HEADER_BYTES + 5);
  setBytes(buffer, bytes, at);
  return writeAll(buffer, size);
}

export function sendLog(call, level, text) {
  sendText(kinds.LOG, call, 1, level, text);
}

/** Let what is sent go nowhere, or to the host again. */
export function setMute(value) {
  mute = value;
}

