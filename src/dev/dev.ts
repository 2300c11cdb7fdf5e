import { rmSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { type LocalTarget, localTarget } from '../cli/local-target.ts';
import { colorizer, marker, type Terminal } from '../cli/output.ts';
import { type Environment, readConfig } from '../config/load.ts';
import { type Address, address } from '../config/network-types.ts';
import type { Config } from '../config/schema.ts';
import { logger } from '../observability/logging/logger.ts';
import { type RunningServer, serve } from '../serve.ts';
import { startFakeApiServer } from './fake-api-server.ts';
import { introduction } from './introduction.ts';
import { type SampleRequest, type SampleResult, sampleRequests, trySample } from './sample-requests.ts';
import { tokenIssuer } from './token-issuer.ts';

/**
 * Settings of a real API server. `gatecar dev` ignores them, since its fake API server takes the
 * real one's role.
 */
const API_SERVER_SETTINGS = [
  'GATECAR_KUBECONFIG',
  'KUBECONFIG',
  'GATECAR_KUBE_CONTEXT',
  'GATECAR_KUBE_API_URL',
  'KUBE_API_SERVER',
  'GATECAR_KUBE_TOKEN_FILE',
  'KUBE_TOKEN_PATH',
  'GATECAR_KUBE_CA_FILE',
  'KUBE_CA_CERT_PATH',
  'GATECAR_KUBE_HEADERS',
];

/**
 * Runs `gatecar dev`: the sidecar and a fake API server, both on loopback. Tries four requests and
 * prints a page with their results and the `curl` commands. The settings are those of `serve`,
 * except for those of the API server.
 *
 * @throws {ConfigError}
 */
export async function dev(
  args: readonly string[],
  env: Environment,
  terminal: Pick<Terminal, 'write' | 'isTerminal'>,
): Promise<RunningServer> {
  const issuer = tokenIssuer();
  const apiServer = await startFakeApiServer({ issuer });
  let directory: string | undefined;
  let running: RunningServer | undefined;
  const close = async (): Promise<void> => {
    // First of all: a second signal ends the process before the rest is done.
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
    await running?.stop();
    await apiServer.close();
  };
  try {
    const config = readConfig(args, devEnvironment(args, env, apiServer.url));
    running = await serve(config, { inCluster: undefined, homeDirectory: undefined }, logger(config.logLevel));
    // `mkdtemp` creates it with the mode 0700.
    directory = await mkdtemp(join(tmpdir(), 'gatecar-dev-'));
    const auth = targetOf(running.auth, config.tlsCertFile === undefined ? 'http' : 'https');
    const samples = await prepareSamples(auth, config, sampleRequests(config, issuer), directory);
    terminal.write(
      introduction({
        auth,
        ops: targetOf(running.ops, 'http'),
        apiServerUrl: apiServer.url,
        directory,
        samples,
        program: programName(),
        paint: colorizer(terminal, env),
        mark: marker(terminal, env),
      }),
    );
    return { ...running, stop: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Returns how a user starts this program: from source, or as it is installed. */
export function programName(file: string = import.meta.filename): string {
  return extname(file) === '.ts' ? 'npx node src/main.ts' : 'gatecar';
}

function devEnvironment(args: readonly string[], env: Environment, apiServerUrl: string): Environment {
  const given = Object.entries(env).filter(
    ([name, value]) => value !== undefined && !API_SERVER_SETTINGS.includes(name),
  );
  const hasList =
    args.some(arg => /^--allowed-(namespaces|service-accounts)(=|$)/.test(arg)) ||
    given.some(([name]) => /^(GATECAR|BIND)_ALLOWED_(NAMESPACES|SERVICE_ACCOUNTS)$/.test(name));
  return {
    GATECAR_LISTEN: '127.0.0.1:9080',
    GATECAR_OPS_LISTEN: '127.0.0.1:9081',
    GATECAR_SHUTDOWN_DELAY: '0s',
    // The page is for a person. Lines of JSON would stand in between.
    GATECAR_LOG_LEVEL: 'warn',
    ...(hasList ? {} : { GATECAR_ALLOWED_NAMESPACES: 'default' }),
    ...Object.fromEntries(given),
    GATECAR_KUBE_API_URL: apiServerUrl,
  };
}

type TriedSample = SampleRequest & { readonly result: SampleResult };

/** Writes each token to a private file, as a header line, and tries it. */
async function prepareSamples(
  auth: LocalTarget,
  config: Config,
  samples: readonly SampleRequest[],
  directory: string,
): Promise<TriedSample[]> {
  return Promise.all(
    samples.map(async sample => {
      const { name, token } = sample;
      await writeFile(join(directory, name), `Authorization: Bearer ${token}\n`, { mode: 0o600 });
      return { ...sample, result: await trySample(auth, token, config.identityHeaderPrefix) };
    }),
  );
}

/** Returns where to send requests for a listener, from its address as text. */
function targetOf(listener: string, scheme: 'http' | 'https'): LocalTarget {
  return localTarget(address.parse(listener) as Address, scheme);
}
