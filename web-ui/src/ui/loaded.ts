// Loads a part of the page, also where the browser remembers that it could not be loaded before.
type Fetch = (url: string) => Promise<unknown>;

/** The address of what could not be loaded, if it is one of ours. */
export function addressOf(error: unknown, origin: string): string | null {
  const found = /https?:\/\/[^\s?#]+\.js/.exec(error instanceof Error ? error.message : '')?.[0];
  return found?.startsWith(`${origin}/`) ? found : null;
}

export async function loaded<T>(load: () => Promise<T>, nth: number, origin = location.origin, fetch: Fetch = (url) => import(/* @vite-ignore */ url)): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const address = nth > 0 ? addressOf(error, origin) : null;
    if (!address) throw error;
    // Under another name it is asked for again.
    return (await fetch(`${address}?again=${nth}`)) as T;
  }
}
