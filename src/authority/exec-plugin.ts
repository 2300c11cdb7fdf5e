import { type SpawnOptions, spawn } from 'node:child_process';

/**
 * Ends the exec plugins of a KubeConfig that take longer. The library waits for them without end and offers no setting;
 * `test/authority/exec-plugin.test.ts` would notice if it kept its way to start them elsewhere.
 */
export function boundPlugins(config: object, timeoutMs: number): void {
  const { authenticators } = config as { authenticators: readonly object[] };
  for (const one of authenticators) {
    if (!('execFn' in one)) continue;
    one.execFn = (command: string, args: readonly string[] = [], options: SpawnOptions = {}) => {
      const child = spawn(command, args, options);
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        // What it started itself may hold on to them.
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, timeoutMs).unref();
      return child.once('close', () => clearTimeout(timer));
    };
  }
}
