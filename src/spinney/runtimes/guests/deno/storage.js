// localStorage. Deno's own keeps a file, in a directory that sandboxes do not have; this one lives as long as its sandbox.

const { Map, Object, Proxy, Reflect, Storage } = globalThis;

function makeStorage() {
  const items = new Map();
  const members = {
    __proto__: null,
    getItem: (name) => items.get(`${name}`) ?? null,
    setItem: (name, value) => void items.set(`${name}`, `${value}`),
    removeItem: (name) => void items.delete(`${name}`),
    key: (index) => [...items.keys()][index] ?? null,
    clear: () => items.clear(),
  };
  return new Proxy(Object.create(Storage.prototype), {
    get(target, name) {
      if (name === 'length') return items.size;
      if (name in members) return members[name];
      return items.has(name) ? items.get(name) : Reflect.get(target, name, target);
    },
    set(_target, name, value) {
      members.setItem(name, value);
      return true;
    },
    has: (target, name) => items.has(name) || Reflect.has(target, name),
    deleteProperty(_target, name) {
      items.delete(name);
      return true;
    },
    ownKeys: () => [...items.keys()],
    getOwnPropertyDescriptor(_target, name) {
      if (!items.has(name)) return undefined;
      return { value: items.get(name), writable: true, enumerable: true, configurable: true };
    },
  });
}

/** Put it in the place of Deno's, made when it is first asked for. */
export function replaceStorage() {
  let storage;
  const get = () => (storage ??= makeStorage());
  Object.defineProperty(globalThis, 'localStorage', { get, enumerable: true, configurable: true });
}
