// The arrays of a page: decoded when they are first read, bit by bit as NumPy had them.

const KINDS = { f8: Float64Array, f4: Float32Array, i4: Int32Array };

function unpack(packed) {
  const kind = packed.slice(0, 2), text = packed.slice(3);
  if (Uint8Array.fromBase64) return new KINDS[kind](Uint8Array.fromBase64(text).buffer);
  const characters = atob(text), bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return new KINDS[kind](bytes.buffer);
}

class Tensor {
  // Attributes
  //   makers, users: the operations that compute it, and that read it.
  //   value, grad: typed arrays in C order; null if the page does not carry them.
  constructor(data, number) {
    Object.assign(this, data);
    this.number = number;
    this.size = this.shape.reduce((product, n) => product * n, 1);
    this.makers = [];
    this.users = [];
    this.packed = { value: data.value ?? null, grad: data.grad ?? null };
    this.formed = null; // a gradient that this page computed
    delete this.value;
    delete this.grad;
    for (const what of ["value", "grad"]) {
      Object.defineProperty(this, what, {
        configurable: true,
        get() {
          const array = this.packed[what] === null ? null : unpack(this.packed[what]);
          Object.defineProperty(this, what, { value: array, writable: true, configurable: true });
          return array;
        },
      });
    }
  }

  get isCarried() { return this.packed.value !== null; }
  get hasGradient() { return this.packed.grad !== null || this.has_gradient === true; }

  // [2, 0, 5] -> the place in the flat array, and back
  flat(cell) { return cell.reduce((place, index, axis) => place * this.shape[axis] + index, 0); }
  cell(flat) {
    const found = [];
    for (let axis = this.shape.length - 1; axis >= 0; axis--) {
      found.unshift(flat % this.shape[axis]);
      flat = Math.floor(flat / this.shape[axis]);
    }
    return found;
  }
}

// All tensors of a page, by number and by name; a second name of an array leads to the same tensor.
class Tensors {
  constructor(data) {
    this.all = data.tensors.map((tensor, number) => new Tensor(tensor, number));
    this.aliases = data.aliases;
    this.byName = new Map(this.all.map((tensor) => [tensor.name, tensor]));
  }
  get(name) { return this.byName.get(Object.hasOwn(this.aliases, name) ? this.aliases[name] : name) ?? null; }
  // Text that the layer at this path keeps under another name too: "blocks.0.x" is also "positioned"
  otherNames(tensor) { return Object.keys(this.aliases).filter((name) => this.aliases[name] === tensor.name); }
}
