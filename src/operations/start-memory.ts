import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Gives back the memory that a start needs and what comes after it does not. V8 keeps the pages by which its young generation
 * grew, and code that ran once, until a collection that is meant to save memory, and a process at rest has none. It is one
 * pause of some 30 ms.
 */
export function releaseStartMemory(): void {
  setFlagsFromString('--expose-gc');
  const collect: NodeJS.GCFunction = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  collect({ type: 'major', flavor: 'last-resort' });
}
