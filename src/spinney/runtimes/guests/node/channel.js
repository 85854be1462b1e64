'use strict';
// The guest's end of the channel (docs/guest-channel.md). Everything here is synchronous: an idle guest blocks in read(2), and what
// was sent before an exit or a kill has left the process. What it calls is captured at boot, so that user code may patch what it likes.

const { readSync, writeSync } = require('node:fs');

const uncurry = (method) => Function.prototype.call.bind(method);
const utf8Slice = uncurry(Buffer.prototype.utf8Slice);
const utf8Write = uncurry(Buffer.prototype.utf8Write);
const latin1Slice = uncurry(Buffer.prototype.latin1Slice);
const copyWithin = uncurry(Uint8Array.prototype.copyWithin);
const copy = uncurry(Buffer.prototype.copy);
const { byteLength, allocUnsafeSlow } = Buffer;
const exit = process.reallyExit.bind(process);
const sleep = Atomics.wait.bind(Atomics, new Int32Array(new SharedArrayBuffer(4)), 0, 0);

const HEADER_BYTES = 9;
const BUFFER_BYTES = 65536;
const LOST_CHANNEL = 70; // exit code: the channel was closed or broken from the inside

const kinds = { READY: 1, LOAD: 2, INVOKE: 3, RESULT: 4, LOG: 5, WARM: 10 };

function readU32(buffer, offset) {
  return (buffer[offset] | (buffer[offset + 1] << 8) | (buffer[offset + 2] << 16) | (buffer[offset + 3] << 24)) >>> 0;
}

function writeU32(buffer, offset, value) {
  buffer[offset] = value;
  buffer[offset + 1] = value >>> 8;
  buffer[offset + 2] = value >>> 16;
  buffer[offset + 3] = value >>> 24;
}

/** Whether a system call that failed is to be tried again; waits a moment when the other side is slow. */
function mayRetry(error) {
  if (error.code === 'EAGAIN') sleep(1); // a child process can make a shared pipe non-blocking
  return error.code === 'EAGAIN' || error.code === 'EINTR';
}

/** Write all of buffer[0, size) to a descriptor. Throws what write(2) says. */
function writeAll(fd, buffer, size) {
  let written = 0;
  while (written < size) {
    try {
      written += writeSync(fd, buffer, written, size - written, null);
    } catch (error) {
      if (!mayRetry(error)) throw error;
    }
  }
}

class Channel {
  constructor(fd) {
    this.fd = fd;
    this.inbox = allocUnsafeSlow(BUFFER_BYTES);
    this.outbox = allocUnsafeSlow(BUFFER_BYTES);
    this.start = 0;
    this.end = 0;
    this.frame = { kind: 0, call: 0, data: this.inbox, from: 0, to: 0 };
  }

  /** Block until a frame is complete. The frame returned is overwritten by the next call. */
  receive() {
    this.need(HEADER_BYTES);
    const { inbox, start, frame } = this;
    const length = readU32(inbox, start);
    frame.call = readU32(inbox, start + 4);
    frame.kind = inbox[start + 8];
    if (HEADER_BYTES + length > BUFFER_BYTES) return this.receiveLarge(length);
    this.need(HEADER_BYTES + length);
    frame.data = inbox;
    frame.from = this.start + HEADER_BYTES;
    frame.to = this.start = frame.from + length;
    return frame;
  }

  receiveLarge(length) {
    const data = allocUnsafeSlow(length);
    let have = copy(this.inbox, data, 0, this.start + HEADER_BYTES, this.end);
    this.start = this.end = 0;
    while (have < length) have += this.read(data, have, length - have);
    const { frame } = this;
    frame.data = data;
    frame.from = 0;
    frame.to = length;
    return frame;
  }

  /** Read until the inbox holds `size` unread bytes. */
  need(size) {
    if (this.end - this.start >= size) return;
    if (this.start === this.end) {
      this.start = this.end = 0;
    } else if (this.start + size > BUFFER_BYTES) {
      copyWithin(this.inbox, 0, this.start, this.end);
      this.end -= this.start;
      this.start = 0;
    }
    while (this.end - this.start < size) this.end += this.read(this.inbox, this.end, BUFFER_BYTES - this.end);
  }

  read(buffer, offset, length) {
    for (;;) {
      try {
        const count = readSync(this.fd, buffer, offset, length, null);
        if (count === 0) exit(0); // the host is done with this sandbox
        return count;
      } catch (error) {
        if (!mayRetry(error)) exit(LOST_CHANNEL);
      }
    }
  }

  sendReady(version) {
    this.send(kinds.READY, 0, 0, -1, `{"version":"${version}"}`);
  }

  sendResult(call, outcome, text) {
    this.send(kinds.RESULT, call, 5, outcome, text);
  }

  sendLog(call, level, text) {
    this.send(kinds.LOG, call, 1, level, text);
  }

  /** One frame in one write: `lead` bytes (the first is `code`, the others zero), then the text. */
  send(kind, call, lead, code, text) {
    const at = HEADER_BYTES + lead;
    let buffer = this.outbox;
    if (text.length * 3 + at > BUFFER_BYTES) {
      const most = at + byteLength(text);
      if (most > BUFFER_BYTES) buffer = allocUnsafeSlow(most);
    }
    const size = at + utf8Write(buffer, text, at);
    writeU32(buffer, 0, size - HEADER_BYTES);
    writeU32(buffer, 4, call);
    buffer[8] = kind;
    if (lead > 0) buffer[HEADER_BYTES] = code;
    if (lead > 1) writeU32(buffer, HEADER_BYTES + 1, 0);
    try {
      writeAll(this.fd, buffer, size);
    } catch {
      exit(LOST_CHANNEL);
    }
  }
}

module.exports = { Channel, kinds, readU32, utf8Slice, latin1Slice, byteLength, writeAll, uncurry, exit, LOST_CHANNEL };
