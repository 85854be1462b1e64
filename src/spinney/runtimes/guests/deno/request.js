// The object that a handler is called with: Fluxbase contract 3.3. The plain fields of the reference and the methods of a Web Request.

import { apply, decode, parse, Reflect, slice, sliceBytes, subarray, toLowerCase, TypeError, uncurry } from './captured.js';
import { frame, receivedFrames } from './channel.js';

const { Blob, Response, URL, URLSearchParams } = globalThis;
const { defineProperty, ownKeys } = Reflect;
const { entries, hasOwn, keys, values } = Object;
const { prototype: lists } = Array;
const iterate = uncurry(lists[Symbol.iterator]);
const forEach = uncurry(lists.forEach);
const formDataOf = uncurry(Response.prototype.formData);
const NO_HEAD = { method: 'POST', url: 'http://localhost/', headers: [] };
const BYTE_ORDER_MARK = '\ufeff';

class RequestHeaders {
  get(name) {
    const key = toLowerCase(`${name}`);
    return hasOwn(this, key) ? this[key] : null;
  }

  has(name) {
    return hasOwn(this, toLowerCase(`${name}`));
  }

  entries() {
    return iterate(entries(this));
  }

  keys() {
    return iterate(keys(this));
  }

  values() {
    return iterate(values(this));
  }

  forEach(callback, receiver) {
    forEach(entries(this), ([name, value]) => apply(callback, receiver, [value, name, this]));
  }

  [Symbol.iterator]() {
    return iterate(entries(this));
  }
}

function setField(record, name, value) {
  if (name === '__proto__') defineProperty(record, name, { value, enumerable: true, writable: true, configurable: true });
  else record[name] = value;
}

function makeRecord(record, pairs) {
  for (let i = 0; i < pairs.length; i++) setField(record, pairs[i][0], pairs[i][1]);
  return record;
}

/** [name, value] with repeated names joined, each name once. */
function joinHeaders(given) {
  const joined = new Map();
  for (const [name, value] of given) {
    const before = joined.get(name);
    joined.set(name, before === undefined ? value : before + (name === 'cookie' ? '; ' : ', ') + value);
  }
  return [...joined];
}

function readQuery(url) {
  const query = url.indexOf('?');
  return query === -1 ? [] : [...new Map(new URLSearchParams(new URL(url).search))];
}

/** What is the same in all requests with these meta bytes. Runs on user-patched built-ins only when the head is a new one. */
function readHead(text) {
  const { method, url, headers, user_id: user } = text === '' ? NO_HEAD : parse(text);
  return { method, url, user, headers: joinHeaders(headers), params: readQuery(url) };
}

let head = readHead('');
let headBytes = new Uint8Array(0);

function sameHead(data, from, to) {
  if (headBytes.length !== to - from) return false;
  for (let i = 0, at = from; at < to; i++, at++) if (headBytes[i] !== data[at]) return false;
  return true;
}

export class FunctionRequest {
  #from;
  #to;
  #frames = receivedFrames();

  constructor(from, to) {
    this.#from = from;
    this.#to = to;
    this.method = head.method;
    this.url = head.url;
    this.headers = makeRecord(new RequestHeaders(), head.headers);
    this.body = from === to ? '' : decode(subarray(frame.data, from, to));
    if (head.user !== undefined) this.user_id = head.user;
    this.params = makeRecord({}, head.params);
  }

  /** A copy of the body's bytes; they are the channel's own, and gone with the call. */
  #bytes() {
    if (this.#frames !== receivedFrames()) throw new TypeError('The request of a call that is over has no body');
    return sliceBytes(frame.data, this.#from, this.#to);
  }

  async text() {
    const text = decode(this.#bytes());
    return text[0] === BYTE_ORDER_MARK ? slice(text, 1) : text;
  }

  async json() {
    return parse(await this.text());
  }

  async arrayBuffer() {
    return this.#bytes().buffer;
  }

  async bytes() {
    return this.#bytes();
  }

  async blob() {
    return new Blob([this.#bytes()], { type: this.headers['content-type'] ?? '' });
  }

  async formData() {
    const type = this.headers['content-type'];
    return formDataOf(new Response(this.#bytes(), { headers: type === undefined ? {} : { 'content-type': type } }));
  }
}

for (const { prototype } of [RequestHeaders, FunctionRequest]) {
  for (const name of ownKeys(prototype)) defineProperty(prototype, name, { enumerable: false });
}

/** The request whose meta and body are at these places of the frame that was received last. */
export function makeRequest(metaFrom, bodyFrom, to) {
  const { data } = frame;
  if (!sameHead(data, metaFrom, bodyFrom)) {
    headBytes = sliceBytes(data, metaFrom, bodyFrom);
    head = readHead(decode(headBytes));
  }
  return new FunctionRequest(bodyFrom, to);
}
