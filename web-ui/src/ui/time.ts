// Times, as kubectl shows them and in full.

/** `5m`, `3h20m`, `12d`: as kubectl's AGE. */
export function age(from: string | undefined, now: number): string {
  if (!from) return '';
  const seconds = Math.max(0, Math.floor((now - Date.parse(from)) / 1000));
  return Number.isNaN(seconds) ? '' : duration(seconds);
}

export function duration(seconds: number): string {
  const [m, h, d] = [60, 3600, 86400];
  const pair = (big: number, unit: string, small: number, smallUnit: string): string =>
    `${Math.floor(seconds / big)}${unit}` + (Math.floor((seconds % big) / small) > 0 ? `${Math.floor((seconds % big) / small)}${smallUnit}` : '');
  if (seconds < 2 * m) return `${seconds}s`;
  if (seconds < 10 * m) return pair(m, 'm', 1, 's');
  if (seconds < 3 * h) return `${Math.floor(seconds / m)}m`;
  if (seconds < 8 * h) return pair(h, 'h', m, 'm');
  if (seconds < 2 * d) return `${Math.floor(seconds / h)}h`;
  if (seconds < 8 * d) return pair(d, 'd', h, 'h');
  if (seconds < 730 * d) return `${Math.floor(seconds / d)}d`;
  return `${Math.floor(seconds / d / 365)}y`;
}

export function exact(time: string | undefined): string {
  return time ? new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' }) : '';
}
