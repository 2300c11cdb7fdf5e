/** An item that can be in one {@link OldestFirst}. Only the list writes these fields. */
export interface Listed<T> {
  older: T | undefined;
  newer: T | undefined;
  isListed: boolean;
}

/**
 * A list of items in the order in which they were added. Adding and removing take constant time and
 * allocate nothing, because the items themselves are the links.
 */
export class OldestFirst<T extends Listed<T>> {
  #oldest: T | undefined;
  #newest: T | undefined;
  #size = 0;

  get oldest(): T | undefined {
    return this.#oldest;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds the item as the newest. Does nothing if it is in the list. */
  add(item: T): void {
    if (item.isListed) return;
    item.isListed = true;
    item.older = this.#newest;
    item.newer = undefined;
    if (this.#newest === undefined) this.#oldest = item;
    else this.#newest.newer = item;
    this.#newest = item;
    this.#size += 1;
  }

  /** Removes the item. Does nothing if it is not in the list. */
  remove(item: T): void {
    if (!item.isListed) return;
    item.isListed = false;
    const { older, newer } = item;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    item.older = undefined;
    item.newer = undefined;
    this.#size -= 1;
  }
}
