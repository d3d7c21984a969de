// Preferences of this browser; none of them is a secret.

export function remembered(key: string, otherwise: string): string {
  try {
    return localStorage.getItem(`wherry.${key}`) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`wherry.${key}`, value);
  } catch {
    // A browser that keeps nothing is as good.
  }
}
