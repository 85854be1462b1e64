// What a handler returned, as a reply: Fluxbase contract 3.4.

import { byteLength, isArray, parse, RangeError, replace, String, stringify, test, toLowerCase, TypeError, uncurry } from './captured.js';

const { ArrayBuffer, Headers, Response, Uint8Array } = globalThis;
const { keys, getOwnPropertyDescriptor } = Object;
const { isInteger } = Number;
const getterOf = (prototype, name) => uncurry(getOwnPropertyDescriptor(prototype, name).get);
const statusOf = getterOf(Response.prototype, 'status');
const headersOf = getterOf(Response.prototype, 'headers');
const collect = uncurry(Response.prototype.arrayBuffer);
const eachHeader = uncurry(Headers.prototype.forEach);

const DIGITS = /^[0-9]+$/;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const NO_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const ENDS = /^[\t ]+|[\t ]+$/g;
const DROPPED = /^(?:connection|keep-alive|transfer-encoding|upgrade|te|trailer|content-length|proxy-.*)$/;
const STRUCTURE = /^[\t\n\r ]*[[{]/;
const USUAL_META = '[["content-type","application/json"]]';

/** The headers of one reply, as they go over the channel: [[name, value], ...]. Throws TypeError for what HTTP has no form for. */
class Fields {
  list = [];
  typed = false;

  add(given, value) {
    const name = toLowerCase(given);
    if (!test(TOKEN, name)) throw new TypeError(`Invalid header name: ${stringify(given)}`);
    const text = replace(String(value), ENDS, '');
    if (test(NO_VALUE, text)) throw new TypeError(`Invalid header value: ${stringify(name)}`);
    if (test(DROPPED, name)) return;
    if (name === 'content-type') this.typed = true;
    this.list[this.list.length] = [name, text];
  }

  addAll(headers) {
    if (typeof headers !== 'object' || headers === null) return;
    if (headers instanceof Headers) {
      eachHeader(headers, (value, name) => this.add(name, value));
      return;
    }
    const names = keys(headers);
    for (let i = 0; i < names.length; i++) {
      const value = headers[names[i]];
      if (!isArray(value)) this.add(names[i], value);
      else for (let j = 0; j < value.length; j++) this.add(names[i], value[j]);
    }
  }
}

function isStructure(text) {
  if (!test(STRUCTURE, text)) return false;
  try {
    parse(text);
    return true;
  } catch {
    return false;
  }
}

/** A body in any of its forms as text or bytes; null for none. */
function encodeBody(body) {
  if (body === undefined || body === null) return '';
  if (typeof body === 'string' || body instanceof Uint8Array) return body;
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  return stringify(body) ?? '';
}

function typeOf(body) {
  if (body.length === 0) return null;
  if (typeof body !== 'string') return 'application/octet-stream';
  return isStructure(body) ? 'application/json' : 'text/plain; charset=utf-8';
}

function checkStatus(given) {
  const status = +given;
  if (!isInteger(status) || status < 200 || status > 599) throw new RangeError(`Invalid response status: ${given}`);
  return status;
}

function finish(status, fields, body) {
  const none = status === 204 || status === 205 || status === 304;
  const list = stringify(fields.list);
  return { meta: status === 200 && list === USUAL_META ? '' : `{"status":${status},"headers":${list}}`, body: none ? '' : body };
}

function encodeFields(value) {
  const status = checkStatus(value.status);
  const fields = new Fields();
  fields.addAll(value.headers);
  const body = encodeBody(value.body);
  const type = fields.typed ? null : typeOf(body);
  if (type !== null) fields.add('content-type', type);
  return finish(status, fields, body);
}

async function encodeResponse(response) {
  const status = checkStatus(statusOf(response));
  const fields = new Fields();
  fields.addAll(headersOf(response));
  return finish(status, fields, new Uint8Array(await collect(response)));
}

function hasStatus(value) {
  if (typeof value !== 'object' || value === null) return false;
  const { status } = value;
  return typeof status === 'number' || (typeof status === 'string' && test(DIGITS, status));
}

/** {meta, body} of a value, or a promise of it for a Response. Throws what makes the value unusable. */
export function encodeReply(value) {
  if (value instanceof Response) return encodeResponse(value);
  if (hasStatus(value)) return encodeFields(value);
  return { meta: '', body: stringify(value) ?? 'null' };
}

export function sizeOf(body) {
  return typeof body === 'string' ? byteLength(body) : body.length;
}
