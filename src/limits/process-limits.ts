import { totalmem } from 'node:os';
import { getHeapStatistics } from 'node:v8';

const KIB = 1024;
const MIB = 1024 * KIB;

/** Resident memory of the process at full load on cached tokens over HTTP and gRPC, without the cache, in bytes. */
const BASE_BYTES = 116 * MIB;
/** The part of that on the JavaScript heap. */
const BASE_HEAP_BYTES = 36 * MIB;
/** What one cached result takes on average, with one rejected beside each accepted, in bytes. */
const CACHE_ENTRY_BYTES = 1536;

/** Parts of the memory that is left. The rest is for bursts between two garbage collections, and for the kernel's buffers. */
const CONNECTIONS_SHARE = 0.35;
const REQUESTS_SHARE = 0.35;
const REQUESTS_HEAP_SHARE = 0.4;

/** Even a process that is given too little memory must serve: it then risks its memory limit, as `gatecar check` reports. */
const MIN_CONNECTIONS_BYTES = 2 * MIB;
const MIN_REQUESTS_BYTES = 4 * MIB;

/** The part of the memory for requests that is for those that wait for a review. */
const WAITING_SHARE = 0.5;

/** The part of the memory for transfers that only gRPC connections with an allowed request may use: those of gateways. */
export const ALLOWED_ONLY_SHARE = 0.25;

/** More than this is never needed: 32,768 plain connections, and requests of 64 KiB on 2,048 of them. */
const MAX_CONNECTIONS_BYTES = 512 * MIB;
const MAX_REQUESTS_BYTES = 128 * MIB;

/** What the process may take. */
export interface ProcessMemory {
  /** The container's limit, or the machine's memory if that is less, in bytes. */
  readonly limitBytes: number;
  /** The limit of the JavaScript heap, in bytes. */
  readonly heapBytes: number;
}

/** Limits on all that waits or is held in this process, whatever listener or connection it came by. */
export interface ProcessLimits {
  /** For open connections, in bytes see `CONNECTION_BYTES`. */
  readonly connectionsBytes: number;
  /** For requests that have not come as a whole, and answers that have not been read, in bytes. */
  readonly transfersBytes: number;
  /** For requests that wait for a review, in bytes. */
  readonly waitingBytes: number;
}

/**
 * Reads the limits of the cgroup, the machine and V8.
 *
 * @param limitBytes the setting that takes the place of the first two.
 * @param cgroupBytes 0 or more than any memory without a limit.
 */
export function processMemory(limitBytes?: number, cgroupBytes: number = process.constrainedMemory()): ProcessMemory {
  return {
    limitBytes: limitBytes ?? Math.min(cgroupBytes || Number.POSITIVE_INFINITY, totalmem()),
    heapBytes: getHeapStatistics().heap_size_limit,
  };
}

/** Divides what the process and its cache leave of the memory. @param cacheMaxEntries of each of the two stores. */
export function processLimits({ limitBytes, heapBytes }: ProcessMemory, cacheMaxEntries: number): ProcessLimits {
  const freeBytes = limitBytes - neededBytes(cacheMaxEntries);
  const freeHeapBytes = heapBytes - neededHeapBytes(cacheMaxEntries);
  const wantedBytes = Math.min(freeBytes * REQUESTS_SHARE, freeHeapBytes * REQUESTS_HEAP_SHARE);
  const requestsBytes = within(MIN_REQUESTS_BYTES, wantedBytes, MAX_REQUESTS_BYTES);
  return {
    connectionsBytes: within(MIN_CONNECTIONS_BYTES, freeBytes * CONNECTIONS_SHARE, MAX_CONNECTIONS_BYTES),
    transfersBytes: Math.floor(requestsBytes * (1 - WAITING_SHARE)),
    waitingBytes: Math.floor(requestsBytes * WAITING_SHARE),
  };
}

/** What the process takes with a full cache and no connection, in bytes. */
export function neededBytes(cacheMaxEntries: number): number {
  return BASE_BYTES + cacheMaxEntries * CACHE_ENTRY_BYTES;
}

/** The part of {@link neededBytes} on the JavaScript heap, in bytes. */
export function neededHeapBytes(cacheMaxEntries: number): number {
  return BASE_HEAP_BYTES + cacheMaxEntries * CACHE_ENTRY_BYTES;
}

function within(min: number, bytes: number, max: number): number {
  return Math.floor(Math.min(Math.max(bytes, min), max));
}
