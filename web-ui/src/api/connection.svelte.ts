// Whether the server answers. Data stays on the screen while it does not.

class Connection {
  /** When the server was lost; null while it answers. */
  since = $state<number | null>(null);

  lost(): void {
    this.since ??= Date.now();
  }

  answered(): void {
    if (this.since !== null) this.since = null;
  }
}

export const connection = new Connection();
