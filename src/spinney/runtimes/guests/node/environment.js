'use strict';
// process.env, put back before every call. Comparing the real one costs microseconds a call (each access is a system interface), so
// user code gets a view that notes when it was written to.

const { defineProperty, deleteProperty, ownKeys, set } = Reflect;

const real = process.env;
const fixed = { ...real };
let wanted = fixed;
let touched = false;

const view = new Proxy(real, {
  set(target, key, value) {
    touched = true;
    return set(target, key, value);
  },
  defineProperty(target, key, descriptor) {
    touched = true;
    return defineProperty(target, key, descriptor);
  },
  deleteProperty(target, key) {
    touched = true;
    return deleteProperty(target, key);
  },
});
process.env = view;

/** Put the function's variables over the sandbox's fixed ones, from the next restore on. */
function configure(variables) {
  wanted = { __proto__: null, ...fixed, ...variables };
  touched = true;
}

/** Undo what the last call changed. */
function restore() {
  if (process.env !== view) process.env = view;
  if (!touched) return;
  const present = ownKeys(real);
  for (let i = 0; i < present.length; i++) if (!(present[i] in wanted)) deleteProperty(real, present[i]);
  const keys = ownKeys(wanted);
  for (let i = 0; i < keys.length; i++) if (real[keys[i]] !== wanted[keys[i]]) set(real, keys[i], wanted[keys[i]]);
  touched = false;
}

module.exports = { configure, restore };
