// What actions have led to, said in the corner and to screen readers.
import { message } from '../api/client';

export interface Notice {
  id: number;
  text: string;
  bad: boolean;
}

const LASTS = 6000;
/** More would cover the page; what is bad stays until it is read. */
const SHOWN = 3;

class Notices {
  list = $state<Notice[]>([]);
  private next = 0;

  say(text: string, bad = false): void {
    const id = this.next++;
    const good = this.list.filter((notice) => !notice.bad);
    const oldest = good.length >= SHOWN ? good[0] : undefined;
    this.list = [...this.list.filter((notice) => notice !== oldest), { id, text, bad }];
    if (!bad) setTimeout(() => this.drop(id), LASTS);
  }

  drop(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }

  /** Does it, and says how it went. */
  async attempt(done: string, act: () => Promise<unknown>): Promise<boolean> {
    try {
      await act();
      this.say(done);
      return true;
    } catch (error) {
      this.say(message(error), true);
      return false;
    }
  }
}

export const notices = new Notices();
