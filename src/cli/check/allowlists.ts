import type { Config } from '../../config/schema.ts';
import { parseServiceAccount, type ServiceAccountName } from '../../identity/identity.ts';
import type { KubeApiClient } from '../../kube/api-client.ts';
import { CHECK_MAX_LOOKUPS } from '../../limits/constants.ts';
import { quoteUntrusted } from '../output.ts';
import { type CheckResult, ok, warn } from './check-result.ts';

interface Named {
  readonly path: string;
  readonly name: string;
  /** The command that creates it. */
  readonly make: string;
}

/**
 * Warns about allowlist entries that do not exist in the cluster. By default gatecar has no
 * permission to look them up and needs none; the result is then `ok` and says so.
 */
export async function checkAllowlists(connection: KubeApiClient, config: Config): Promise<CheckResult[]> {
  const { allowedNamespaces: namespaces, allowedServiceAccounts: accounts, reviewTimeoutMs } = config;
  if (namespaces === undefined && accounts === undefined) {
    return [ok('allowlists', 'none is set: every ServiceAccount with a valid token passes')];
  }
  const names = (accounts ?? []).map(account => parseServiceAccount(account) as ServiceAccountName);
  const named: Named[] = [
    ...(namespaces ?? []).map(name => ({
      path: `/api/v1/namespaces/${name}`,
      name,
      make: `kubectl create namespace ${name}`,
    })),
    ...names.map(({ namespace, name }) => ({
      path: `/api/v1/namespaces/${namespace}/serviceaccounts/${name}`,
      name: `${namespace}/${name}`,
      make: `kubectl create serviceaccount ${name} --namespace ${namespace}`,
    })),
  ];
  const shut = names.filter(({ namespace }) => namespaces !== undefined && !namespaces.includes(namespace));
  const [first] = shut;
  return [
    await lookUp(connection, named, reviewTimeoutMs),
    ...(first === undefined
      ? []
      : [
          warn(
            'allowlists',
            `${quoteUntrusted(shut.map(({ namespace, name }) => `${namespace}/${name}`))} never pass: both lists must, and GATECAR_ALLOWED_NAMESPACES does not name them`,
            `GATECAR_ALLOWED_NAMESPACES=${[namespaces, first.namespace].flat()}`,
          ),
        ]),
  ];
}

async function lookUp(connection: KubeApiClient, named: readonly Named[], timeoutMs: number): Promise<CheckResult> {
  const missing: Named[] = [];
  for (const one of named.slice(0, CHECK_MAX_LOOKUPS)) {
    const status = await statusOf(connection, one.path, timeoutMs);
    if (status === 404) missing.push(one);
    else if (status !== 200) {
      const how = 'kubectl get namespaces; kubectl get serviceaccounts --all-namespaces';
      return ok('allowlists', `not checked, because gatecar may not read them, as intended. Check them with: ${how}`);
    }
  }
  const [first] = missing;
  if (first === undefined) return ok('allowlists', 'all listed names exist');
  return warn(
    'allowlists',
    `${quoteUntrusted(missing.map(({ name }) => name))} are listed but do not exist`,
    first.make,
  );
}

/** Returns the HTTP status of a GET request; `undefined` if there is no response. */
function statusOf(connection: KubeApiClient, path: string, timeoutMs: number): Promise<number | undefined> {
  return connection.get(path, AbortSignal.timeout(timeoutMs)).then(
    ({ status }) => status,
    () => undefined,
  );
}
