// Loaded into a gatecar under measurement (`--import`, with `--expose-gc`). At SIGUSR2 it forces a
// garbage collection and writes the remaining memory. It is plain JavaScript, because a type
// stripper would be part of that memory.
import { writeSync } from 'node:fs';

process.on('SIGUSR2', () => {
  globalThis.gc();
  globalThis.gc();
  const { rss, heapUsed, external } = process.memoryUsage();
  writeSync(1, `${JSON.stringify({ collected: { rss, held: heapUsed + external } })}\n`);
});
