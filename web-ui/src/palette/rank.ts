// What best fits what was typed. Pure.

export interface Entry {
  text: string;
  /** Other words it is found by. */
  also: string;
  hint: string;
  link?: string;
  act?: () => void;
}

/** How well a text fits; 0: not at all. Letters in their order suffice; starts of words and runs count more. */
export function score(typed: string, text: string): number {
  const [q, t] = [typed.toLowerCase().trim(), text.toLowerCase()];
  if (q === '') return 1;
  if (t === q) return 1000;
  if (t.startsWith(q)) return 500 - t.length;
  const at = t.indexOf(q);
  if (at >= 0) return (/[^a-z0-9]/.test(t[at - 1] ?? ' ') ? 300 : 200) - Math.min(100, t.length);
  let position = 0;
  let run = 0;
  let sum = 0;
  for (const letter of q) {
    const next = t.indexOf(letter, position);
    if (next < 0) return 0;
    run = next === position ? run + 1 : 0;
    sum += 1 + run;
    position = next + 1;
  }
  return Math.min(99, sum / (1 + t.length / 100));
}

export function best(typed: string, entries: Entry[], most: number): Entry[] {
  const scored = entries.map((entry) => ({ entry, points: Math.max(score(typed, entry.text), ...entry.also.split(' ').filter(Boolean).map((word) => score(typed, word) - 1)) }));
  return scored
    .filter(({ points }) => points > 0)
    .sort((a, b) => b.points - a.points || a.entry.text.localeCompare(b.entry.text))
    .slice(0, most)
    .map(({ entry }) => entry);
}
