import { isIPv4, isIPv6 } from 'node:net';
import { LRUCache } from 'lru-cache';

export interface FailureCounterOptions {
  /** How many failures of one address are borne in a window. */
  readonly failures: number;
  /** Milliseconds from an address's first failure until it starts anew. */
  readonly windowMs: number;
  /** How many addresses are counted at once; the one that was not heard of for longest is forgotten. */
  readonly maxAddresses: number;
  /** Milliseconds on a clock that never goes back. */
  readonly now?: () => number;
}

/** Counts failures by client address, in bounded memory. */
export interface FailureCounter {
  /** Milliseconds until this address may fail again; 0 where it may now. */
  blockedForMs(address: string): number;
  /** @param failure what failed; one that is told to many at once counts once. */
  failed(address: string, failure: object): void;
  /** Addresses that are held. */
  readonly size: number;
}

interface Window {
  readonly endsAt: number;
  count: number;
  last: object;
}

/** A window opens with an address's first failure and is not made longer by those that follow. */
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
        // A copy: an address is part of a header, and a part of a string holds on to all of it, 64 KiB that a client chose.
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
 * What an address is counted as: itself, or the /64 of an IPv6 address, since whoever has one has all of that network. An
 * IPv4 address in the clothes of an IPv6 one is the IPv4 address.
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
