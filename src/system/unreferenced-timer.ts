/** Calls back after `ms` milliseconds. The timer does not keep the process alive. */
export function unreferencedTimer(callback: () => void, ms: number): void {
  setTimeout(callback, ms).unref();
}
