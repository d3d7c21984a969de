// What an issuer sends a browser back with. Pure.

export interface Back {
  code: string;
  state: string;
  /** Who sent it, where the issuer says so. */
  iss?: string;
  /** Why there is no code, in a sentence. */
  failed?: string;
}

/** Reads the query of the page's address; null where nobody comes back. */
export function comesBack(search: string): Back | null {
  const said = new URLSearchParams(search);
  const state = said.get('state');
  if (state === null) return null;
  const iss = said.get('iss');
  const back = { code: said.get('code') ?? '', state, ...(iss === null ? {} : { iss }) };
  const error = said.get('error');
  if (error !== null) return { ...back, failed: `The issuer has not signed you in: ${said.get('error_description') || error}` };
  return back.code === '' ? null : back;
}

/** When to renew what ends then: some time before, and never at once again. */
export function renewIn(ends: string | undefined, now: number): number | null {
  const end = ends === undefined ? NaN : Date.parse(ends);
  if (Number.isNaN(end)) return null;
  // At nine tenths of what is left, at least ten seconds from now, and as long as timers can be.
  return Math.min(Math.max((end - now) * 0.9, 10_000), 2 ** 31 - 1);
}
