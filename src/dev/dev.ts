import { type Environment, readConfig } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { parseServiceAccount } from '../identity/identity.ts';
import { logger } from '../observability/logging/logger.ts';
import { type RunningServer, serve } from '../serve.ts';
import { startFakeApiServer } from './fake-api-server.ts';
import { ISSUER, type TokenIssuer, tokenIssuer } from './token-issuer.ts';

/**
 * Settings of a real API server. `gatecar dev` ignores them, since its fake API server takes the
 * real one's role.
 */
const API_SERVER_SETTINGS = [
  ...['GATECAR_KUBECONFIG', 'KUBECONFIG', 'GATECAR_KUBE_CONTEXT', 'GATECAR_KUBE_API_URL', 'KUBE_API_SERVER'],
  ...[
    'GATECAR_KUBE_TOKEN_FILE',
    'KUBE_TOKEN_PATH',
    'GATECAR_KUBE_CA_FILE',
    'KUBE_CA_CERT_PATH',
    'GATECAR_KUBE_HEADERS',
  ],
];

/**
 * Runs `gatecar dev`: the sidecar and a fake API server, both on loopback. Prints `curl` commands
 * to try it. The settings are those of `serve`, except for those of the API server.
 *
 * @throws {ConfigError}
 */
export async function dev(
  args: readonly string[],
  env: Environment,
  print: (text: string) => void,
): Promise<RunningServer> {
  const issuer = tokenIssuer();
  const authority = await startFakeApiServer({ issuer });
  try {
    const config = readConfig(args, devEnvironment(args, env, authority.url));
    const running = await serve(config, { inCluster: undefined, homeDirectory: undefined }, logger(config.logLevel));
    print(introduction(running, authority.url, config, issuer));
    return {
      ...running,
      async stop() {
        await running.stop();
        await authority.close();
      },
    };
  } catch (error) {
    await authority.close();
    throw error;
  }
}

function devEnvironment(args: readonly string[], env: Environment, authorityUrl: string): Environment {
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
    ...(hasList ? {} : { GATECAR_ALLOWED_NAMESPACES: 'default' }),
    ...Object.fromEntries(given),
    GATECAR_KUBE_API_URL: authorityUrl,
  };
}

function introduction(running: RunningServer, authorityUrl: string, config: Config, issuer: TokenIssuer): string {
  const account = passingAccount(config);
  const audiences = config.tokenAudiences.slice(0, 1);
  const good = {
    ...account,
    audiences: audiences.length > 0 ? audiences : [ISSUER],
    pod: 'my-app-0',
    node: 'dev-node',
  };
  const cases: [title: string, token: string][] = [
    ['A token that passes (200, and the identity headers):', issuer.issue(good)],
    ['One for the wrong audience (401):', issuer.issue({ ...good, audiences: ['somebody-else'] })],
    [`One from a blocked namespace (${config.policyDeniedStatus}):`, issuer.issue({ ...good, namespace: 'blocked' })],
    ['One that has expired (401):', issuer.issue({ ...good, expiresInSeconds: -3600, notBeforeSeconds: -7200 })],
  ];
  return `
gatecar        ${running.auth}
ops            ${running.ops}   (/livez /readyz /metrics)
authority      ${authorityUrl}   (an embedded TokenReview API; its tokens mean nothing anywhere else)

${cases.map(([title, token]) => `# ${title}\n${curl(running.auth, token)}\n`).join('\n')}
`;
}

function passingAccount(config: Config): { namespace: string; serviceAccount: string } {
  const listed = parseServiceAccount(config.allowedServiceAccounts?.[0] ?? '');
  if (listed !== undefined) return { namespace: listed.namespace, serviceAccount: listed.name };
  // Never empty: `devEnvironment` sets it if no allowlist is configured.
  const [namespace] = config.allowedNamespaces as [string, ...string[]];
  return { namespace, serviceAccount: 'my-app' };
}

function curl(listener: string, token: string): string {
  const target = listener.startsWith('unix:')
    ? `--unix-socket ${listener.slice('unix:'.length)} http://localhost/auth`
    : `http://${listener.replace(/^(\[::\]|0\.0\.0\.0):/, '127.0.0.1:')}/auth`;
  return `curl -i -H "Authorization: Bearer ${token}" ${target}`;
}
