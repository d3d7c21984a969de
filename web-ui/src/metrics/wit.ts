// What a Wasm program says of itself, written as WIT. Pure.

/** `program` of a container, as the server tells it. */
export interface Program {
  digest: string;
  size: number;
  kind: 'component' | 'module' | string;
  worlds: string[];
  imports: string[];
  exports: string[];
  producers: Record<string, { name: string; version: string }[]>;
  codeSize: number;
}

export interface Guest {
  name: string;
  image: string;
  program: Program;
}

/** The world of a component; of a module, its imports and exports one by one. */
export function wit(program: Program): string {
  const item = (word: string, name: string): string => `  ${word} ${name};`;
  const lines = [...[...program.imports].sort().map((name) => item('import', name)), ...[...program.exports].sort().map((name) => item('export', name))];
  if (program.kind !== 'component') return lines.map((line) => line.trim().replace(/;$/, '')).join('\n');
  return ['world root {', ...lines, '}'].join('\n');
}

/** What made it, in one line. */
export function madeBy(program: Program): string {
  return Object.values(program.producers).flat().map(({ name, version }) => `${name} ${version}`.trim()).join(', ');
}
