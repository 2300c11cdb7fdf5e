import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { User } from '@kubernetes/client-node';
import { EXEC_PLUGIN_MAX_OUTPUT_BYTES } from '../limits/constants.ts';

/** The `exec` field of a kubeconfig's user. */
interface ExecConfig {
  readonly command: string;
  readonly args?: readonly string[] | null;
  readonly env?: readonly { readonly name: string; readonly value: string }[] | null;
}

/**
 * The fields that gatecar reads of the status of an `ExecCredential`
 * (client.authentication.k8s.io/v1).
 */
export interface ExecStatus {
  readonly token?: string;
  readonly clientCertificateData?: string;
  readonly clientKeyData?: string;
  readonly expirationTimestamp?: string;
}

/** Returns the credential of a plugin, or undefined if the plugin returns none. */
export type ExecPlugin = () => Promise<ExecStatus | undefined>;

export interface ExecPluginOptions {
  /** The plugin is killed after this time, in milliseconds. */
  readonly timeoutMs: number;
  readonly wallClock?: () => number;
}

const run = promisify(execFile);

/**
 * The exec plugin of a user. As in client-node, it may also be in the configuration of an
 * `auth-provider`.
 */
export function execConfigOf({ exec, authProvider }: User): ExecConfig | undefined {
  return exec ?? authProvider?.config?.exec ?? undefined;
}

/**
 * Returns the user without its exec plugin, for client-node, which would run it without a time
 * limit.
 */
export function withoutExec({ exec, authProvider, ...user }: User): User {
  return exec || authProvider?.config?.exec ? user : { ...user, authProvider };
}

/**
 * Creates a function that runs an exec plugin. The plugin runs again only after the
 * `expirationTimestamp` of its credential. A credential without one is used until the kubeconfig is
 * loaded again.
 *
 * The returned function rejects if the plugin cannot be started, fails, takes too long, or writes
 * too much or no `ExecCredential`. Its errors may contain the plugin's output: do not log them.
 */
export function execPlugin({ command, args, env }: ExecConfig, options: ExecPluginOptions): ExecPlugin {
  const { timeoutMs, wallClock = Date.now } = options;
  let current: ExecStatus | undefined;
  return async () => {
    if (current !== undefined && !isExpired(current, wallClock())) return current;
    const { stdout } = await run(command, args ?? [], {
      env: { ...process.env, ...Object.fromEntries((env ?? []).map(({ name, value }) => [name, value])) },
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      maxBuffer: EXEC_PLUGIN_MAX_OUTPUT_BYTES,
    });
    current = readStatus(stdout);
    return current;
  };
}

function readStatus(text: string): ExecStatus | undefined {
  const credential = JSON.parse(text) as { readonly status?: ExecStatus } | null;
  if (credential === null) return undefined;
  if (credential.status === undefined) throw new Error('the exec plugin wrote no ExecCredential');
  return credential.status;
}

function isExpired({ expirationTimestamp }: ExecStatus, wallClockMs: number): boolean {
  return expirationTimestamp !== undefined && !(Date.parse(expirationTimestamp) > wallClockMs);
}
