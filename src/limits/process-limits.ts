import { totalmem } from 'node:os';
import { getHeapStatistics } from 'node:v8';
import {
  BASE_BYTES,
  BASE_HEAP_BYTES,
  CACHE_ENTRY_BYTES,
  CONNECTIONS_SHARE,
  MAX_CONNECTIONS_BYTES,
  MAX_REQUESTS_BYTES,
  MIN_CONNECTIONS_BYTES,
  MIN_REQUESTS_BYTES,
  REQUESTS_HEAP_SHARE,
  REQUESTS_SHARE,
  WAITING_SHARE,
} from './constants.ts';

/** The memory that is available to the process. */
export interface ProcessMemory {
  /** The container's limit, or the machine's memory if that is less, in bytes. */
  readonly limitBytes: number;
  /** The limit of the JavaScript heap, in bytes. */
  readonly heapBytes: number;
}

/**
 * Limits on everything that waits or is held in this process, for all listeners and connections
 * together.
 */
export interface ProcessLimits {
  /** For open connections, in bytes, see `CONNECTION_BYTES`. */
  readonly connectionsBytes: number;
  /** For incomplete requests and for responses that have not been read, in bytes. */
  readonly transfersBytes: number;
  /** For requests that wait for a review, in bytes. */
  readonly waitingBytes: number;
}

/**
 * Reads the memory limits of the cgroup, the machine and V8.
 *
 * @param limitBytes the setting that replaces the limits of the cgroup and the machine.
 * @param cgroupBytes 0, or more than any memory, if the cgroup has no limit.
 */
export function processMemory(limitBytes?: number, cgroupBytes: number = process.constrainedMemory()): ProcessMemory {
  return {
    limitBytes: limitBytes ?? Math.min(cgroupBytes || Number.POSITIVE_INFINITY, totalmem()),
    heapBytes: getHeapStatistics().heap_size_limit,
  };
}

/**
 * Divides the memory that the process and its cache leave free.
 *
 * @param cacheMaxEntries the maximum number of entries in each of the two cache stores.
 */
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

/** Returns the memory of the process with a full cache and no connections, in bytes. */
export function neededBytes(cacheMaxEntries: number): number {
  return BASE_BYTES + cacheMaxEntries * CACHE_ENTRY_BYTES;
}

/** Returns the part of {@link neededBytes} on the JavaScript heap, in bytes. */
export function neededHeapBytes(cacheMaxEntries: number): number {
  return BASE_HEAP_BYTES + cacheMaxEntries * CACHE_ENTRY_BYTES;
}

function within(min: number, bytes: number, max: number): number {
  return Math.floor(Math.min(Math.max(bytes, min), max));
}
