// Loaded into a gatecar under measurement (`--import`, with `--expose-gc`): at SIGUSR2 it collects all there is to
// collect, and writes what is left. Plain JavaScript, since what strips types would be in that memory too.
import { writeSync } from 'node:fs';

process.on('SIGUSR2', () => {
  globalThis.gc();
  globalThis.gc();
  const { rss, heapUsed, external } = process.memoryUsage();
  writeSync(1, `${JSON.stringify({ collected: { rss, held: heapUsed + external } })}\n`);
});
