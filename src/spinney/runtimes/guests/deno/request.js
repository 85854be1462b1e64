// The object that a handler is called with: Fluxbase contract 3.3. The plain fields of the reference and the methods of a Web Request.

import { apply, decode, indexOf, Object, parse, Reflect, slice, sliceBytes, subarray, toLowerCase, TypeError, Uint8Array, uncurry } from './captured.js';

const { Array, Blob, Response, Symbol, URL, URLSearchParams } = globalThis;
const { defineProperty, ownKeys } = Reflect;
const { entries, hasOwn, keys, values } = Object;
const iterate = uncurry(Array.prototype[Symbol.iterator]);
const forEach = uncurry(Array.prototype.forEach);
const eachParameter = uncurry(URLSearchParams.prototype.forEach);
const paramsOf = uncurry(Object.getOwnPropertyDescriptor(URL.prototype, 'searchParams').get);
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

class FunctionRequest {
  #frame;
  #number;
  #from;
  #to;
  // Own before they are set: user code may have put setters of these names where all objects would find them.
  method;
  url;
  headers;
  body;
  params;

  /** The body is the frame's data[from, to), for as long as the frame has the number that it has now. */
  constructor(head, frame, from, to) {
    this.#frame = frame;
    this.#number = frame.number;
    this.#from = from;
    this.#to = to;
    this.method = head.method;
    this.url = head.url;
    this.headers = fillRecord(new RequestHeaders(), head.headers);
    this.body = from === to ? '' : decode(subarray(frame.data, from, to));
    this.params = fillRecord({}, head.params);
    if (head.user !== undefined) this.user_id = head.user;
  }

  /** A copy of the body's bytes: they are the channel's, and gone with the call. */
  #bytes() {
    if (this.#number !== this.#frame.number) throw new TypeError('The call is over and its request body gone');
    return sliceBytes(this.#frame.data, this.#from, this.#to);
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

function fillRecord(record, pairs) {
  for (let i = 0; i < pairs.length; i++) {
    const name = pairs[i][0];
    const value = pairs[i][1];
    if (name !== '__proto__') record[name] = value;
    else defineProperty(record, name, { value, enumerable: true, writable: true, configurable: true });
  }
  return record;
}

/** [[name, value], ...] with repeated names joined, each name once. */
function joinHeaders(given) {
  const pairs = [];
  const places = { __proto__: null };
  for (let i = 0; i < given.length; i++) {
    const name = given[i][0];
    const at = places[name];
    if (at !== undefined) {
      pairs[at][1] += (name === 'cookie' ? '; ' : ', ') + given[i][1];
    } else {
      places[name] = pairs.length;
      pairs[pairs.length] = given[i];
    }
  }
  return pairs;
}

function readQuery(url) {
  const pairs = [];
  if (indexOf(url, '?') !== -1) {
    eachParameter(paramsOf(new URL(url)), (value, name) => {
      pairs[pairs.length] = [name, value];
    });
  }
  return pairs;
}

function readHead(text) {
  const { method, url, headers, user_id: user } = text === '' ? NO_HEAD : parse(text);
  return { method, url, user, headers: joinHeaders(headers), params: readQuery(url) };
}

function equal(bytes, data, from) {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== data[from + i]) return false;
  return true;
}

/** What makes a request of the call in `frame`: its meta is data[metaFrom, bodyFrom), its body the rest. */
export function makeRequests(frame) {
  let head = readHead('');
  let headBytes = new Uint8Array(0);
  return (metaFrom, bodyFrom) => {
    // Requests of one connection mostly have the same head.
    if (headBytes.length !== bodyFrom - metaFrom || !equal(headBytes, frame.data, metaFrom)) {
      headBytes = sliceBytes(frame.data, metaFrom, bodyFrom);
      head = readHead(decode(headBytes));
    }
    return new FunctionRequest(head, frame, bodyFrom, frame.to);
  };
}
