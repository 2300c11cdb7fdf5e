import type { Config } from '../../config/schema.ts';
import { CONNECTION_BYTES } from '../../limits/constants.ts';
import { neededBytes, neededHeapBytes, type ProcessMemory, processLimits } from '../../limits/process-limits.ts';
import { type CheckResult, fail, ok, warn } from './check-result.ts';

const MIB = 1024 * 1024;

/**
 * Checks whether a full cache and `GATECAR_MAX_CONNECTIONS` connections fit into the memory limit.
 *
 * @param detected the memory of the process without `GATECAR_MEMORY_LIMIT`.
 */
export function checkMemory(config: Config, detected: ProcessMemory): CheckResult {
  const { cacheMaxEntries, maxConnections, memoryLimit } = config;
  const memory = { ...detected, limitBytes: memoryLimit ?? detected.limitBytes };
  const limit = `${Math.floor(memory.limitBytes / MIB)} MiB`;
  const needed = mebibytes(neededBytes(cacheMaxEntries));
  const use = `gatecar and a full cache (GATECAR_CACHE_MAX_ENTRIES=${cacheMaxEntries}) take ${needed} MiB`;
  if (neededBytes(cacheMaxEntries) > memory.limitBytes) {
    return fail(
      'memory',
      `${use}, which is more than the memory limit of ${limit}`,
      `kubectl describe pod   # set a memory limit above ${needed}Mi, or a smaller GATECAR_CACHE_MAX_ENTRIES`,
    );
  }
  if (memory.limitBytes > detected.limitBytes) {
    return warn(
      'memory',
      `GATECAR_MEMORY_LIMIT is ${limit}, but only ${Math.floor(detected.limitBytes / MIB)} MiB are available here`,
      'kubectl describe pod   # leave GATECAR_MEMORY_LIMIT out: gatecar reads the limit of its container',
    );
  }
  const { connectionsBytes, transfersBytes, waitingBytes } = processLimits(memory, cacheMaxEntries);
  const takenBytes = neededBytes(cacheMaxEntries) + connectionsBytes + transfersBytes + waitingBytes;
  if (takenBytes > memory.limitBytes) {
    return warn(
      'memory',
      `${use}; the memory limit of ${limit} leaves less than gatecar needs for connections and requests`,
      `kubectl describe pod   # set a memory limit above ${mebibytes(takenBytes)}Mi, or a smaller GATECAR_CACHE_MAX_ENTRIES`,
    );
  }
  const neededHeap = neededHeapBytes(cacheMaxEntries);
  if (neededHeap > memory.heapBytes) {
    return warn(
      'memory',
      `a full cache (GATECAR_CACHE_MAX_ENTRIES=${cacheMaxEntries}) may take ${mebibytes(neededHeap)} MiB of the JavaScript ` +
        `heap, which is limited to ${Math.floor(memory.heapBytes / MIB)} MiB`,
      `NODE_OPTIONS=--max-old-space-size=${mebibytes(neededHeap)}   # in addition to its other options, or a smaller GATECAR_CACHE_MAX_ENTRIES`,
    );
  }
  const fitting = Math.floor(connectionsBytes / bytesPerConnection(config));
  const connections = config.grpcListen === undefined ? 'connections' : 'connections on each listener';
  if (maxConnections !== undefined && maxConnections > fitting) {
    return warn(
      'memory',
      `GATECAR_MAX_CONNECTIONS is ${maxConnections}, but the memory limit of ${limit} has room for ${fitting} ${connections}`,
      `gatecar serve --max-connections=${fitting}   # or leave it out, or raise the memory limit`,
    );
  }
  return ok(
    'memory',
    `${limit}, of which ${use}; room for ${maxConnections ?? fitting} ${connections}, ${Math.floor(transfersBytes / MIB)} MiB ` +
      `of requests in transfer and ${Math.floor(waitingBytes / MIB)} MiB of requests that wait for a review`,
  );
}

/** Returns the memory of one connection on each listener, in total, in bytes. */
function bytesPerConnection({ grpcListen, tlsCertFile }: Config): number {
  const tlsBytes = tlsCertFile === undefined ? 0 : CONNECTION_BYTES.tls;
  const httpBytes = CONNECTION_BYTES.http + tlsBytes;
  return grpcListen === undefined ? httpBytes : httpBytes + CONNECTION_BYTES.grpc + tlsBytes;
}

function mebibytes(bytes: number): number {
  return Math.ceil(bytes / MIB);
}
