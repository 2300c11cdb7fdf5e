import { isIPv4, isIPv6 } from 'node:net';
import { LRUCache } from 'lru-cache';

export interface FailureCounterOptions {
  /** How many failures an address may have in a window. */
  readonly failures: number;
  /** Length of a window in milliseconds, from an address's first failure. */
  readonly windowMs: number;
  /** How many addresses are counted. If there are more, the least recently used one is dropped. */
  readonly maxAddresses: number;
  /** A monotonic clock in milliseconds. */
  readonly now?: () => number;
}

/** Counts failures by client address, in bounded memory. */
export interface FailureCounter {
  /** Milliseconds until this address may fail again; 0 if it may now. */
  blockedForMs(address: string): number;
  /**
   * Counts a failure. @param failure the result; an object that several requests share counts once.
   */
  failed(address: string, failure: object): void;
  /** Number of addresses that are counted now. */
  readonly size: number;
}

interface Window {
  readonly endsAt: number;
  count: number;
  last: object;
}

/**
 * Creates a counter. A window starts with an address's first failure; later ones do not extend it.
 */
export function failureCounter(options: FailureCounterOptions): FailureCounter {
  const { failures, windowMs, maxAddresses, now = () => performance.now() } = options;
  const windows = new LRUCache<string, Window>({ max: maxAddresses });
  const open = (key: string): Window | undefined => {
    const window = windows.get(key);
    return window !== undefined && window.endsAt > now() ? window : undefined;
  };
  return {
    blockedForMs(address) {
      const window = open(rateLimitKey(address));
      return window !== undefined && window.count >= failures ? window.endsAt - now() : 0;
    },
    failed(address, failure) {
      const key = rateLimitKey(address);
      const window = open(key);
      if (window === undefined) {
        // Copies the key: a substring keeps its whole parent string in memory. Here that is a
        // header of up to 64 KiB that a client chose.
        windows.set(Buffer.from(key).toString(), { endsAt: now() + windowMs, count: 1, last: failure });
      } else if (window.last !== failure) {
        window.count += 1;
        window.last = failure;
      }
    },
    get size() {
      return windows.size;
    },
  };
}

/**
 * Returns the key under which an address is counted: the address itself, or the /64 network of an
 * IPv6 address. A client with an IPv6 address usually controls its whole /64. An IPv4-mapped IPv6
 * address counts as the IPv4 address.
 *
 * @param address an IP address without a zone.
 */
export function rateLimitKey(address: string): string {
  if (isIPv4(address) || !isIPv6(address)) return address;
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(canonical);
  if (mapped !== null) {
    const [high, low] = [Number.parseInt(mapped[1] as string, 16), Number.parseInt(mapped[2] as string, 16)];
    return [high >> 8, high & 255, low >> 8, low & 255].join('.');
  }
  const [head = '', tail] = canonical.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0');
  return `${[...before, ...zeros, ...after].slice(0, 4).join(':')}::/64`;
}
