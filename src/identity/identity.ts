/** The user of a token as the API server returned it, and the audiences that were accepted. */
export interface Identity {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  /** The parts of a ServiceAccount's username; `undefined` for any other user. */
  readonly serviceAccount: ServiceAccountName | undefined;
  readonly pod: string;
  readonly podUid: string;
  readonly node: string;
  readonly nodeUid: string;
  readonly credentialId: string;
  /**
   * The accepted audiences: the requested ones that the API server confirmed. If none were
   * requested, those that it returned.
   */
  readonly audiences: readonly string[];
}

export interface ServiceAccountName {
  readonly namespace: string;
  readonly name: string;
}

/** `status.user` of a TokenReview (authentication.k8s.io/v1 UserInfo) with validated types. */
export interface UserInfo {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

/** RFC 1123 label, the API server's rule for namespaces. */
export const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** RFC 1123 subdomain, the API server's rule for ServiceAccount names. */
const SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/**
 * Splits `system:serviceaccount:<namespace>:<name>`.
 *
 * @returns `undefined` unless the API server could have created both names (apiserver
 *   `serviceaccount.SplitUsername`).
 */
export function parseServiceAccount(username: string): ServiceAccountName | undefined {
  const [system, kind, namespace, name, ...rest] = username.split(':');
  if (system !== 'system' || kind !== 'serviceaccount' || rest.length > 0) return undefined;
  if (namespace === undefined || name === undefined) return undefined;
  return NAMESPACE.test(namespace) && SUBDOMAIN.test(name) ? { namespace, name } : undefined;
}

/** Builds the frozen {@link Identity} from a TokenReview's user and the accepted audiences. */
export function toIdentity(user: UserInfo, audiences: readonly string[]): Identity {
  const extra = (key: string): string => user.extra[`authentication.kubernetes.io/${key}`]?.[0] ?? '';
  return Object.freeze({
    username: user.username,
    uid: user.uid,
    groups: user.groups,
    serviceAccount: parseServiceAccount(user.username),
    pod: extra('pod-name'),
    podUid: extra('pod-uid'),
    node: extra('node-name'),
    nodeUid: extra('node-uid'),
    credentialId: extra('credential-id'),
    audiences,
  });
}
