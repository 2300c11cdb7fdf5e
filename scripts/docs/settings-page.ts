import { settingsTable } from '../../src/config/help.ts';
import { SETTINGS, type Setting } from '../../src/config/schema.ts';
import { formerNames } from '../../src/config/setting-names.ts';

/** Settings that belong together, with a sentence that says when to change them. */
interface SettingGroup {
  readonly title: string;
  readonly text: string;
  readonly settings: readonly (keyof typeof SETTINGS)[];
}

/** Every setting. Each one must be in exactly one group. */
export const SETTING_GROUPS: readonly SettingGroup[] = [
  {
    title: 'Mode, audiences and allowlists',
    text: 'Which tokens pass. Set the audiences and an allowlist in every installation.',
    settings: ['mode', 'allowInsecureBasic', 'tokenAudiences', 'allowedNamespaces', 'allowedServiceAccounts'],
  },
  {
    title: 'Listeners',
    text: 'Where gatecar listens. The defaults listen on all interfaces.',
    settings: ['listen', 'opsListen', 'grpcListen', 'socketMode'],
  },
  {
    title: 'Responses',
    text: 'What gateways and clients see.',
    settings: ['policyDeniedStatus', 'unavailableStatus', 'errorDetail', 'identityHeaderPrefix'],
  },
  {
    title: 'Cache',
    text: 'How long a result counts. [The cache](how-it-decides.md#the-cache) explains them.',
    settings: ['cacheTtlMs', 'cacheNegativeTtlMs', 'cacheMaxEntries', 'cacheRefreshAhead', 'cacheStaleIfErrorMs'],
  },
  {
    title: 'Checks before a review',
    text: 'What is rejected without asking the API server.',
    settings: ['jwtPrecheck', 'opaqueTokens', 'clientFailureLimit'],
  },
  {
    title: 'Reviews',
    text: 'How many reviews run and wait. See [overload](troubleshooting.md#overload) before you raise a limit.',
    settings: ['reviewTimeoutMs', 'reviewMaxConcurrency', 'reviewMaxQueue'],
  },
  {
    title: 'Trusted proxies',
    text: 'Whose forwarded headers are used.',
    settings: ['trustedProxies', 'clientIpHeader'],
  },
  {
    title: 'API server',
    text: 'A pod needs none of these settings.',
    settings: ['kubeConfigFiles', 'kubeContext', 'kubeApiUrl', 'kubeTokenFile', 'kubeCaFile', 'kubeHeaders'],
  },
  {
    title: 'TLS',
    text: 'TLS of the auth and gRPC listeners. See [operations](operations.md#tls-between-gateway-and-gatecar).',
    settings: ['tlsCertFile', 'tlsKeyFile', 'tlsClientCaFile'],
  },
  {
    title: 'Limits and shutdown',
    text: 'See [limits of the process](operations.md#limits-of-the-process).',
    settings: ['maxConnections', 'memoryLimit', 'shutdownDelayMs', 'shutdownTimeoutMs'],
  },
  {
    title: 'Log and audit',
    text: 'See [monitoring](monitoring.md#log).',
    settings: ['logLevel', 'auditLog'],
  },
];

/** Returns the sections of `docs/configuration.md` that list the settings. */
export function groupedSettings(): string {
  return SETTING_GROUPS.map(
    ({ title, text, settings }) =>
      `### ${title}\n\n${text}\n\n${settingsTable(settings.map((key): Setting<unknown> => SETTINGS[key]))}`,
  ).join('\n\n');
}

/** Returns a table of the former names of settings, which are still accepted. */
export function formerNamesTable(): string {
  const rows = Object.values<Setting<unknown>>(SETTINGS).flatMap(setting =>
    formerNames(setting).map(former => `| \`${former}\` | \`${setting.name}\` |`),
  );
  return ['| former name | setting |', '|---|---|', ...rows].join('\n');
}
