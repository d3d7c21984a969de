// Ties a watch to a component: it lasts as long as the component shows it.

interface Usable {
  use(): () => void;
}

/** Follows what `choose` answers, again whenever it answers another. */
export function follow<L extends Usable>(choose: () => L | undefined): { readonly current: L | undefined } {
  const chosen = $derived(choose());
  $effect(() => chosen?.use());
  return {
    get current() {
      return chosen;
    },
  };
}
