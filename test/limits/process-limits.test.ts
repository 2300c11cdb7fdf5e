import { totalmem } from 'node:os';
import t from 'tap';
import { CONNECTION_BYTES } from '../../src/limits/constants.ts';
import { neededBytes, processLimits, processMemory } from '../../src/limits/process-limits.ts';

const MIB = 1024 * 1024;
/** The heap limit of the image. */
const IMAGE_HEAP_BYTES = 152 * MIB;

t.test('the budgets and the process itself fit into the memory limit of the chart', async t => {
  const limitBytes = 256 * MIB;
  const limits = processLimits({ limitBytes, heapBytes: IMAGE_HEAP_BYTES }, 10_000);
  const { connectionsBytes } = limits;
  const requestsBytes = limits.transfersBytes + limits.waitingBytes;
  t.ok(neededBytes(10_000) + connectionsBytes + requestsBytes < 0.9 * limitBytes);
  t.ok(requestsBytes > 30 * MIB);
  t.ok(connectionsBytes / CONNECTION_BYTES.http > 2_500);
});

t.test('budgets grow with the memory limit up to a maximum, and shrink with a larger cache', async t => {
  const limits = (mib: number, entries = 10_000) =>
    processLimits({ limitBytes: mib * MIB, heapBytes: mib * MIB }, entries);
  t.ok(limits(512).connectionsBytes > limits(256).connectionsBytes);
  t.ok(limits(512).waitingBytes > limits(256).waitingBytes);
  t.strictSame(limits(64_000), limits(128_000));
  t.ok(limits(512, 100_000).transfersBytes < limits(512).transfersBytes);
});

t.test('a small heap limits the budgets of requests, which are stored on the heap', async t => {
  const limitBytes = 1024 * MIB;
  const [small, large] = [64, 512].map(mib => processLimits({ limitBytes, heapBytes: mib * MIB }, 1_000));
  t.ok((small?.waitingBytes ?? 0) < (large?.waitingBytes ?? 0));
  t.equal(small?.connectionsBytes, large?.connectionsBytes);
});

t.test('a very small memory limit still leaves budgets for connections and requests', async t => {
  const { connectionsBytes, transfersBytes, waitingBytes } = processLimits(
    { limitBytes: 64 * MIB, heapBytes: 64 * MIB },
    1_000_000,
  );
  t.ok(connectionsBytes >= 100 * CONNECTION_BYTES.http);
  t.ok(transfersBytes >= 2 * MIB && waitingBytes >= 2 * MIB);
});

t.test('the memory limit is the setting, else the cgroup’s limit, else the machine’s memory', async t => {
  const { limitBytes, heapBytes } = processMemory();
  t.ok(limitBytes > 0 && limitBytes <= totalmem());
  t.ok(heapBytes > 0);
  t.equal(processMemory(undefined, 0).limitBytes, totalmem(), 'without a cgroup limit');
  t.equal(processMemory(undefined, 64 * MIB).limitBytes, 64 * MIB);
  t.equal(processMemory(123).limitBytes, 123);
});
