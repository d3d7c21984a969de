// The view that is shown is the page's fragment.
import { format, parse, type Route } from './route';

class Router {
  route = $state.raw<Route>(parse(location.hash));

  constructor() {
    addEventListener('hashchange', () => (this.route = parse(location.hash)));
  }

  go(hash: string): void {
    location.hash = hash;
  }

  /** Shows another view in place of this one, without a step in the history. */
  replace(hash: string): void {
    history.replaceState(null, '', location.pathname + hash);
    this.route = parse(hash);
  }

  /** Changes the query of this view, without a step in the history. */
  set(changes: Record<string, string>): void {
    const query = { ...this.route.query, ...changes };
    for (const [key, value] of Object.entries(query)) if (value === '') delete query[key];
    this.route = { ...this.route, query };
    history.replaceState(null, '', format(this.route));
  }
}

export const router = new Router();
