// TanStack's virtualizer for Svelte's runes: which rows of a long list are in sight.
import { elementScroll, observeElementOffset, observeElementRect, Virtualizer, type VirtualItem } from '@tanstack/virtual-core';

export class Virtual {
  items = $state.raw<VirtualItem[]>([]);
  total = $state(0);
  private readonly virtualizer: Virtualizer<HTMLElement, Element>;

  constructor(
    private readonly scroller: () => HTMLElement | null,
    private readonly height: number,
  ) {
    this.virtualizer = new Virtualizer(this.options(0));
  }

  private options(count: number) {
    return {
      count,
      getScrollElement: this.scroller,
      estimateSize: () => this.height,
      overscan: 12,
      observeElementRect,
      observeElementOffset,
      scrollToFn: elementScroll,
      onChange: () => this.read(),
    };
  }

  /** To be called when the list is mounted; the answer undoes it. */
  mount(): () => void {
    const undo = this.virtualizer._didMount();
    this.virtualizer._willUpdate();
    this.read();
    return undo;
  }

  count(count: number): void {
    this.virtualizer.setOptions(this.options(count));
    this.virtualizer.measure();
    this.virtualizer._willUpdate();
    this.read();
  }

  show(index: number): void {
    this.virtualizer.scrollToIndex(index, { align: 'auto' });
  }

  private read(): void {
    this.items = this.virtualizer.getVirtualItems();
    this.total = this.virtualizer.getTotalSize();
  }
}
