// Watch to store, the only one: a list, then the changes since, for as long as somebody looks. What was last known stays
// while the server is away. The same collection is watched once however many look at it.
import { ApiError, lines, query, request } from './client';
import type { Column, List, Obj, Row, Table, Tree } from './types';

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json';
const PAGE = 500;
/** How often changes reach the screen, so that a storm of them costs one drawing. */
const FLUSH = 80;
const FIRST_DELAY = 300;
const LAST_DELAY = 5000;

export interface Selectors {
  labels?: string;
  fields?: string;
}

export type Phase = 'loading' | 'live' | 'away' | 'refused';

/** What an event does to what is held; answers the revision that the event brings, if any. */
export function absorb<T>(held: Map<string, T>, event: Tree, itemsOf: (object: Tree) => T[], keyOf: (item: T) => string): string {
  const object = event.object ?? {};
  if (event.type !== 'BOOKMARK') {
    for (const item of itemsOf(object)) {
      if (event.type === 'DELETED') held.delete(keyOf(item));
      else held.set(keyOf(item), item);
    }
  }
  return object.rows?.[0]?.object?.metadata?.resourceVersion || object.metadata?.resourceVersion || '';
}

export const keyOfObject = (object: Obj): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`;

abstract class Live<T> {
  items = $state.raw<T[]>([]);
  phase = $state<Phase>('loading');
  error = $state<string>('');
  /** How many are still to come of the first list. */
  coming = $state(0);
  private held = new Map<string, T>();
  private flushing: ReturnType<typeof setTimeout> | undefined;
  private stopping: AbortController | undefined;
  private users = 0;

  constructor(
    private readonly path: string,
    private readonly selectors: Selectors,
    private readonly accept: string,
    private readonly released: () => void,
  ) {}

  protected abstract itemsOf(object: Tree): T[];
  protected abstract keyOf(item: T): string;

  /** Watches until every user has let go. */
  use(): () => void {
    if (this.users++ === 0) {
      this.stopping = new AbortController();
      void this.run(this.stopping.signal);
    }
    let used = true;
    return () => {
      if (!used) return;
      used = false;
      if (--this.users > 0) return;
      this.stopping?.abort();
      clearTimeout(this.flushing);
      this.flushing = undefined;
      this.released();
    };
  }

  private async run(signal: AbortSignal): Promise<void> {
    let revision = '';
    let delay = FIRST_DELAY;
    while (!signal.aborted) {
      try {
        if (revision === '') revision = await this.list(signal);
        this.phase = 'live';
        this.error = '';
        for await (const seen of this.changes(revision, signal)) {
          revision = seen;
          delay = FIRST_DELAY;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && (error.code === 410 || error.code === 400)) revision = '';
        const refused = error instanceof ApiError && [401, 403, 404, 405].includes(error.code);
        this.phase = refused ? 'refused' : 'away';
        this.error = error instanceof Error ? error.message : String(error);
        if (refused) delay = LAST_DELAY;
      }
      await pause(delay, signal);
      delay = Math.min(delay * 2, LAST_DELAY);
    }
  }

  private ask(parameters: Record<string, string | number | undefined>): string {
    const { labels, fields } = this.selectors;
    return this.path + query({ labelSelector: labels, fieldSelector: fields, ...parameters });
  }

  /** Reads everything, page by page; what has gone meanwhile leaves when the last page is there. */
  private async list(signal: AbortSignal): Promise<string> {
    const fresh = new Map<string, T>();
    let from: string | undefined;
    for (;;) {
      const path = this.ask({ limit: PAGE, continue: from });
      const response = await request(path, { accept: this.accept, signal });
      const page = (await response.json()) as Tree as Table & List;
      for (const item of this.itemsOf(page)) {
        fresh.set(this.keyOf(item), item);
        this.held.set(this.keyOf(item), item);
      }
      from = page.metadata.continue || undefined;
      this.coming = from ? (page.metadata.remainingItemCount ?? 0) : 0;
      if (!from) {
        this.held = fresh;
        this.flush();
        return page.metadata.resourceVersion ?? '';
      }
      this.soon();
    }
  }

  /** Follows the changes; yields each revision that is safe to go on from. */
  private async *changes(revision: string, signal: AbortSignal): AsyncGenerator<string> {
    const path = this.ask({ watch: 'true', allowWatchBookmarks: 'true', resourceVersion: revision });
    const response = await request(path, { accept: this.accept, signal });
    for await (const line of lines(response)) {
      if (line === '') continue;
      const event = JSON.parse(line) as Tree;
      if (event.type === 'ERROR') {
        throw new ApiError(event.object?.code ?? 500, event.object?.message ?? 'The watch has failed.');
      }
      const seen = absorb(this.held, event, (object) => this.itemsOf(object), (item) => this.keyOf(item));
      if (event.type !== 'BOOKMARK') this.soon();
      if (seen) yield seen;
    }
  }

  private soon(): void {
    this.flushing ??= setTimeout(() => this.flush(), FLUSH);
  }

  private flush(): void {
    clearTimeout(this.flushing);
    this.flushing = undefined;
    this.items = [...this.held.values()];
  }
}

export class LiveObjects extends Live<Obj> {
  protected itemsOf(object: Tree): Obj[] {
    if (!Array.isArray(object.items)) return object.metadata?.name ? [object] : [];
    const kind = String(object.kind ?? '').replace(/List$/, '');
    // Items of a list come without their kind.
    return object.items.map((item: Obj) => ({ apiVersion: object.apiVersion, kind, ...item }));
  }
  protected keyOf(item: Obj): string {
    return keyOfObject(item);
  }
}

export class LiveTable extends Live<Row> {
  columns = $state.raw<Column[]>([]);
  protected itemsOf(object: Tree): Row[] {
    if (object.columnDefinitions?.length) this.columns = object.columnDefinitions;
    return object.rows ?? [];
  }
  protected keyOf(item: Row): string {
    return keyOfObject(item.object);
  }
}

const shared = new Map<string, LiveObjects | LiveTable>();

function find<L extends LiveObjects | LiveTable>(key: string, make: (released: () => void) => L): L {
  const found = shared.get(key);
  if (found) return found as L;
  const made = make(() => shared.delete(key));
  shared.set(key, made);
  return made;
}

/** Whole objects of a collection. */
export function objects(path: string, selectors: Selectors = {}): LiveObjects {
  const key = `objects ${path}${query({ ...selectors })}`;
  return find(key, (released) => new LiveObjects(path, selectors, 'application/json', released));
}

/** The pods of a node. */
export const podsOn = (node: string): LiveObjects => objects('/api/v1/pods', { fields: `spec.nodeName=${node}` });

/** A collection as the server's table of it. */
export function table(path: string, selectors: Selectors = {}): LiveTable {
  const key = `table ${path}${query({ ...selectors })}`;
  return find(key, (released) => new LiveTable(path, selectors, TABLE, released));
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}
