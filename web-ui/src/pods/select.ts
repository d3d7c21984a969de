// Label selectors as the API's text. Pure.
import type { Tree } from '../api/types';

/** '' selects nothing here: a workload without a selector has no pods of its own. */
export function selectorOf(selector: Tree): string {
  const equal = Object.entries((selector?.matchLabels ?? {}) as Record<string, string>).map(([key, value]) => `${key}=${value}`);
  const expressions = ((selector?.matchExpressions ?? []) as Tree[]).map(({ key, operator, values }) => {
    if (operator === 'Exists') return key;
    if (operator === 'DoesNotExist') return `!${key}`;
    return `${key} ${operator === 'In' ? 'in' : 'notin'} (${(values ?? []).join(',')})`;
  });
  return [...equal, ...expressions].join(',');
}

/** Whether labels have all pairs of an equality selector; an empty one selects nothing. */
export function matches(pairs: Record<string, string> | undefined, labels: Record<string, string> | undefined): boolean {
  const wanted = Object.entries(pairs ?? {});
  return wanted.length > 0 && wanted.every(([key, value]) => labels?.[key] === value);
}
