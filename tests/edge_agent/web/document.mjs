// As much of a document as the painter wants; `shown` writes elements with their classes and text.

class Node {
  parent = null;
  remove() {
    this.parent.children.splice(this.parent.children.indexOf(this), 1);
    this.parent = null;
  }
}

class Text extends Node {
  constructor(data) {
    super();
    this.data = data;
  }
  appendData(more) {
    this.data += more;
  }
}

class Element extends Node {
  children = [];
  className = "";
  dataset = {};
  constructor(tag) {
    super();
    this.tag = tag;
  }
  get firstChild() {
    return this.children[0];
  }
  append(...added) {
    for (const one of added) {
      const node = typeof one === "string" ? new Text(one) : one;
      if (node.parent) node.remove();
      node.parent = this;
      this.children.push(node);
    }
  }
  get textContent() {
    return this.children.map((one) => (one instanceof Text ? one.data : one.textContent)).join("");
  }
  set textContent(text) {
    for (const one of [...this.children]) one.remove();
    this.append(text);
  }
  setAttribute(name, value) {
    this[name] = value;
  }
}

export function useDocument() {
  globalThis.document = { createElement: (tag) => new Element(tag) };
  return new Element("main");
}

export function shown(node) {
  if (node instanceof Text) return node.data.replaceAll("<", "‹");
  const name = node.className ? `${node.tag}.${node.className}` : node.tag;
  return `<${name}>${node.children.map(shown).join("")}</${node.tag}>`;
}

// Without the spans of origins.
export function plain(node) {
  if (node instanceof Text) return node.data.replaceAll("<", "‹");
  const inner = node.children.map(plain).join("");
  return node.tag === "span" ? inner : `<${node.tag}>${inner}</${node.tag}>`;
}

export function elementsOf(node) {
  return node instanceof Element ? [node, ...node.children.flatMap(elementsOf)] : [];
}
