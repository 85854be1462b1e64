// The guest's end of the channel (docs/guest-channel.md). It reads and writes by plain system calls on a descriptor that no interface of
// Deno's can name: the process blocks while it is idle, and user code cannot reach the channel.

import { encode, encodeInto, freeze, Number, once, setBytes, subarray, Uint8Array } from './captured.js';

const CHANNEL_FD = 3;
const HEADER_BYTES = 9;
const RESULT_LEAD = 5;
const LOG_LEAD = 1;
const BUFFER_BYTES = 65536;
const EINTR = 4;
const LOST_CHANNEL = 70; // exit code: the channel was closed or broken from the inside

export const kinds = freeze({ READY: 1, LOAD: 2, INVOKE: 3, RESULT: 4, LOG: 5, WARM: 10 });

const LIBC = {
  read: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  write: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  poll: { parameters: ['buffer', 'usize', 'i32'], result: 'i32' },
  _exit: { parameters: ['i32'], result: 'void' },
  __errno_location: { parameters: [], result: 'pointer' },
};

export function readU32(buffer, offset) {
  return (buffer[offset] | (buffer[offset + 1] << 8) | (buffer[offset + 2] << 16) | (buffer[offset + 3] << 24)) >>> 0;
}

function writeU32(buffer, offset, value) {
  buffer[offset] = value;
  buffer[offset + 1] = value >>> 8;
  buffer[offset + 2] = value >>> 16;
  buffer[offset + 3] = value >>> 24;
}

function writeHeader(buffer, size, call, kind, code) {
  writeU32(buffer, 0, size - HEADER_BYTES);
  writeU32(buffer, 4, call);
  buffer[8] = kind;
  buffer[HEADER_BYTES] = code;
}

class Channel {
  #libc = Deno.dlopen('libc.so.6', LIBC).symbols;
  #errno = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(this.#libc.__errno_location(), 4));
  #inbox = new Uint8Array(BUFFER_BYTES);
  #outbox = new Uint8Array(BUFFER_BYTES);
  #resultText = subarray(this.#outbox, HEADER_BYTES + RESULT_LEAD);
  #logText = subarray(this.#outbox, HEADER_BYTES + LOG_LEAD);

  /** The frame that was received last: its payload is data[from, to), until the next one. */
  frame = { number: 0, kind: 0, call: 0, data: this.#inbox, from: 0, to: 0 };
  /** While true, what is sent goes nowhere. */
  mute = false;

  /** End the process at once: what is on the channel makes no sense. */
  giveUp() {
    this.#libc._exit(LOST_CHANNEL);
  }

  /** Wait, without reading what the host may have sent, until it is done with this sandbox; nothing runs here any more. */
  park() {
    const watched = new Uint8Array([CHANNEL_FD, 0, 0, 0, 0, 0, 0, 0]); // no events: the end only
    while (this.#libc.poll(watched, 1, -1) <= 0);
    this.#libc._exit(0);
  }

  #read(buffer, offset, length) {
    for (;;) {
      const count = Number(this.#libc.read(CHANNEL_FD, offset === 0 ? buffer : subarray(buffer, offset), length));
      if (count > 0) return count;
      if (count === 0) this.#libc._exit(0); // the host is done with this sandbox
      if (this.#errno[0] !== EINTR) this.giveUp();
    }
  }

  #write(buffer, size) {
    let written = 0;
    while (written < size && !this.mute) {
      const rest = written === 0 ? buffer : subarray(buffer, written);
      const count = Number(this.#libc.write(CHANNEL_FD, rest, size - written));
      if (count > 0) written += count;
      else if (this.#errno[0] !== EINTR) this.giveUp();
    }
  }

  /**
   * Block until a frame is complete. Nothing beyond it is read: what has not been read of a call that stands behind this one can be given
   * to another sandbox.
   */
  receive() {
    const { frame } = this;
    const inbox = this.#inbox;
    this.#fill(inbox, HEADER_BYTES);
    const length = readU32(inbox, 0);
    frame.number++;
    frame.call = readU32(inbox, 4);
    frame.kind = inbox[8];
    frame.data = length > BUFFER_BYTES ? new Uint8Array(length) : inbox;
    frame.from = 0;
    frame.to = length;
    this.#fill(frame.data, length);
  }

  #fill(buffer, size) {
    let have = 0;
    while (have < size) have += this.#read(buffer, have, size - have);
  }

  sendReady(version) {
    const text = encode(`{"version":"${version}"}`);
    const buffer = new Uint8Array(HEADER_BYTES + text.length);
    writeHeader(buffer, buffer.length, 0, kinds.READY, 0);
    setBytes(buffer, text, HEADER_BYTES);
    this.#write(buffer, buffer.length);
  }

  sendLog(call, level, text) {
    this.#sendText(kinds.LOG, call, LOG_LEAD, this.#logText, level, text);
  }

  /** `meta`: text, mostly empty; `body`: text or bytes. */
  sendResult(call, outcome, meta, body) {
    if (meta === '' && typeof body === 'string') {
      this.#sendText(kinds.RESULT, call, RESULT_LEAD, this.#resultText, outcome, body);
      return;
    }
    const head = encode(meta);
    const bytes = typeof body === 'string' ? encode(body) : body;
    const size = HEADER_BYTES + RESULT_LEAD + head.length + bytes.length;
    const buffer = size <= BUFFER_BYTES ? this.#outbox : new Uint8Array(size);
    writeHeader(buffer, size, call, kinds.RESULT, outcome);
    writeU32(buffer, HEADER_BYTES + 1, head.length);
    setBytes(buffer, head, HEADER_BYTES + RESULT_LEAD);
    setBytes(buffer, bytes, HEADER_BYTES + RESULT_LEAD + head.length);
    this.#write(buffer, size);
  }

  /** A frame whose payload is `lead` bytes (the first is `code`, the others zero) and text: one write. */
  #sendText(kind, call, lead, room, code, text) {
    let buffer = this.#outbox;
    let size = HEADER_BYTES + lead;
    if (size + text.length * 3 <= BUFFER_BYTES) {
      size += encodeInto(text, room).written;
    } else {
      const bytes = encode(text);
      buffer = new Uint8Array(size + bytes.length);
      setBytes(buffer, bytes, size);
      size = buffer.length;
    }
    writeHeader(buffer, size, call, kind, code);
    if (lead === RESULT_LEAD) writeU32(buffer, HEADER_BYTES + 1, 0);
    this.#write(buffer, size);
  }
}

export const openChannel = once(() => new Channel());
