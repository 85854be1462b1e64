'use strict';
// The guest's end of the channel (docs/guest-channel.md). Everything here is synchronous: an idle guest blocks in read(2), and what
// was sent before an exit or a kill has left the process. What it calls is captured at boot, so that user code may patch what it likes.

const { readSync, writeSync } = require('node:fs');

const uncurry = (method) => Function.prototype.call.bind(method);
const utf8Slice = uncurry(Buffer.prototype.utf8Slice);
const utf8Write = uncurry(Buffer.prototype.utf8Write);
const latin1Slice = uncurry(Buffer.prototype.latin1Slice);
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
    this.frame = { kind: 0, call: 0, data: this.inbox, from: 0, to: 0 };
  }

  /**
   * Block until a frame is complete. The frame returned is overwritten by the next call. Nothing beyond it is read: what has not been
   * read of a call that stands behind this one can be given to another sandbox.
   */
  receive() {
    const { inbox, frame } = this;
    this.fill(inbox, HEADER_BYTES);
    const length = readU32(inbox, 0);
    frame.call = readU32(inbox, 4);
    frame.kind = inbox[8];
    frame.data = length > BUFFER_BYTES ? allocUnsafeSlow(length) : inbox;
    frame.from = 0;
    frame.to = length;
    this.fill(frame.data, length);
    return frame;
  }

  fill(buffer, size) {
    let have = 0;
    while (have < size) have += this.read(buffer, have, size - have);
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

  /** A result whose body is bytes, and whose meta is ASCII. */
  sendBytes(call, outcome, meta, body) {
    const head = allocUnsafeSlow(HEADER_BYTES + 5 + meta.length);
    utf8Write(head, meta, HEADER_BYTES + 5);
    writeU32(head, 0, 5 + meta.length + body.length);
    writeU32(head, 4, call);
    head[8] = kinds.RESULT;
    head[HEADER_BYTES] = outcome;
    writeU32(head, HEADER_BYTES + 1, meta.length);
    this.write(head, head.length);
    this.write(body, body.length);
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
    this.write(buffer, size);
  }

  write(buffer, size) {
    try {
      writeAll(this.fd, buffer, size);
    } catch {
      exit(LOST_CHANNEL);
    }
  }
}

module.exports = { Channel, kinds, readU32, utf8Slice, latin1Slice, byteLength, writeAll, uncurry, exit, LOST_CHANNEL };
