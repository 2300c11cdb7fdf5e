/**
 * Runs a task repeatedly, each time `pauseMs` after it has ended.
 *
 * @returns a function that stops it.
 */
export function repeat(pauseMs: number, task: () => Promise<void>): () => void {
  let isStopped = false;
  let timer: NodeJS.Timeout;
  const schedule = (): void => {
    if (!isStopped) timer = setTimeout(() => task().then(schedule), pauseMs).unref();
  };
  schedule();
  return () => {
    isStopped = true;
    clearTimeout(timer);
  };
}
