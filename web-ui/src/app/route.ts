// Addresses of views: everything that is shown can be linked to. Pure; the fragment keeps them out of requests, so that
// any server can serve the page.

export interface Route {
  /** The parts of the path, decoded: `['k', 'apps', 'deployments', 'default', 'web']`. */
  path: string[];
  query: Record<string, string>;
}

export function parse(hash: string): Route {
  const text = hash.replace(/^#?\/?/, '');
  const [path = '', search = ''] = text.split('?', 2);
  return {
    path: path.split('/').filter(Boolean).map(decode),
    query: Object.fromEntries(new URLSearchParams(search)),
  };
}

export function format(route: Route): string {
  const path = route.path.map(encodeURIComponent).join('/');
  const search = new URLSearchParams(Object.entries(route.query).filter(([, value]) => value !== '')).toString();
  return `#/${path}${search ? `?${search}` : ''}`;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Whether a view is of a namespace or of all; such a view's address says which. */
export function hasNamespace({ path }: Route, isNamespaced: (group: string, plural: string) => boolean): boolean {
  const [view, group, plural, , name] = path;
  if (view === 'k' && plural && !name) return isNamespaced(group === 'core' ? '' : group!, plural);
  return view === undefined || view === 'access';
}

/** The namespace with which the page begins: what the address says, or what was chosen before where it says nothing at all. */
export function firstNamespace({ path, query }: Route, before: string): string {
  return query.ns ?? (path.length === 0 ? before : '');
}

/** The view of a kind: `core` stands for the group without a name. */
export function linkToKind(group: string, plural: string, query: Record<string, string> = {}): string {
  return format({ path: ['k', group || 'core', plural], query });
}

/** The view of an object; `-` stands for no namespace. */
export function linkTo(group: string, plural: string, namespace: string | undefined, name: string, query: Record<string, string> = {}): string {
  return format({ path: ['k', group || 'core', plural, namespace || '-', name], query });
}
