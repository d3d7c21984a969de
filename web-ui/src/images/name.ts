// What images of the cluster's own registry are called. Pure.
import { resourceName, type Kind } from '../api/discovery';

/** The registry's kind, where the server has it. */
export function imagesOf(kinds: Kind[]): Kind | undefined {
  return kinds.find((kind) => resourceName(kind) === 'images.registry.wherry.dev' && kind.verbs.includes('create'));
}

export interface Name {
  name: string;
  tag: string;
}

/** `hello:1` as its parts; `latest` where there is no tag. */
export function parse(text: string): Name {
  const [name = '', tag = 'latest'] = text.trim().split(':', 2);
  return { name, tag };
}

/** What is wrong with a name, in a sentence; '' for nothing. What is made of it must be a Service's name, too. */
export function problem(text: string): string {
  const { name, tag } = parse(text);
  if (text.trim() === '') return 'Give it a name, such as hello:1.';
  if (!/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name)) return 'A name has lower case letters, digits and dashes, begins with a letter and has at most 63 characters.';
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(tag) || text.split(':').length > 2) return 'A tag has letters, digits, dots, dashes and underscores.';
  return '';
}

/** A name for a file: `Hello World.v2.wasm` is `hello-world-v2:1`. */
export function suggest(file: string): string {
  const base = file.replace(/^.*[\\/]/, '').replace(/\.wasm$/i, '');
  const name = base.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replace(/^[^a-z]+/, '').slice(0, 63).replace(/-+$/, '');
  return `${name || 'program'}:1`;
}

/** The same name with the next tag, for a program that is there already: `hello:1` is `hello:2`. */
export function next(text: string, taken: string[]): string {
  const { name, tag } = parse(text);
  let number = /^\d+$/.test(tag) ? Number(tag) : 1;
  while (taken.includes(`${name}:${number}`)) number++;
  return `${name}:${number}`;
}
