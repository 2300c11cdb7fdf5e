import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { isMap } from 'node:util/types';

/** Where no stream is. */
const NOBODY = -1;

/**
 * The streams of a connection by their ids, in place of the `Map` in which Node keeps them.
 *
 * A `Map` to which is added and from which is deleted all the time moves to a new table every few streams, and the one it has
 * left still holds those that were open then. The tables of a connection are soon among V8's old objects, of which only a full
 * collection finds that nobody needs them; until then what they hold counts as in use. So most streams, with all that Node keeps
 * for each, lived on until a full collection, and those came four times a second under load: a tenth of the time of a decision,
 * and its slowest percent. Here a place is emptied where it stands, and nothing is left.
 */
export class StreamTable extends Map<number, ServerHttp2Stream> {
  // Side by side, and never shortened: a list that grows and shrinks leaves as much behind as a `Map` does. A connection has tens of
  // streams and at most 1,024, so that looking through them costs next to nothing.
  readonly #ids: number[] = [];
  readonly #streams: (ServerHttp2Stream | undefined)[] = [];
  #size = 0;

  override get size(): number {
    return this.#size;
  }

  override has(id: number): boolean {
    return this.#ids.includes(id);
  }

  override get(id: number): ServerHttp2Stream | undefined {
    const at = this.#ids.indexOf(id);
    return at === -1 ? undefined : this.#streams[at];
  }

  override set(id: number, stream: ServerHttp2Stream): this {
    const known = this.#ids.indexOf(id);
    const at = known === -1 ? this.#size : known;
    this.#ids[at] = id;
    this.#streams[at] = stream;
    if (known === -1) this.#size += 1;
    return this;
  }

  override delete(id: number): boolean {
    const at = this.#ids.indexOf(id);
    if (at === -1) return false;
    // The last one takes its place: nobody asks in which order they came.
    this.#size -= 1;
    this.#ids[at] = this.#ids[this.#size] as number;
    this.#streams[at] = this.#streams[this.#size];
    this.#ids[this.#size] = NOBODY;
    this.#streams[this.#size] = undefined;
    return true;
  }

  override clear(): void {
    this.#ids.fill(NOBODY);
    this.#streams.fill(undefined);
    this.#size = 0;
  }

  /** Of those that are there now: whoever is told of them may delete them. */
  override entries(): MapIterator<[number, ServerHttp2Stream]> {
    const streams = this.#streams.slice();
    const ids = this.#ids.slice(0, this.#size);
    return ids.map((id, at): [number, ServerHttp2Stream] => [id, streams[at] as ServerHttp2Stream]).values();
  }

  override [Symbol.iterator](): MapIterator<[number, ServerHttp2Stream]> {
    return this.entries();
  }

  override forEach(tell: (stream: ServerHttp2Stream, id: number, table: Map<number, ServerHttp2Stream>) => void): void {
    for (const [id, stream] of this.entries()) tell(stream, id, this);
  }

  override *keys(): MapIterator<number> {
    for (const [id] of this.entries()) yield id;
  }

  override *values(): MapIterator<ServerHttp2Stream> {
    for (const [, stream] of this.entries()) yield stream;
  }
}

/**
 * Has Node keep the streams of a connection that has none yet in a {@link StreamTable}. Node offers no way to say so; where another
 * one keeps them in another place, they stay there, and all that is lost is speed. `test/gateway/stream-table.test.ts` would
 * notice.
 */
export function useStreamTable(session: ServerHttp2Session): void {
  const key = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'state');
  const state = key && (session as unknown as Record<symbol, { streams?: unknown } | undefined>)[key];
  // Node's own is a Map whose prototype is none of ours.
  if (state && isMap(state.streams) && state.streams.size === 0) state.streams = new StreamTable();
}
