import { CREDENTIAL_BACKOFF_MS } from '../limits/constants.ts';
import type { EndpointSource, KubeEndpoint } from './endpoint.ts';

export interface CredentialRefresher {
  /**
   * Returns the endpoint to use after the API server rejected the credential of `rejectedEndpoint`.
   * If another request has refreshed the credential in the meantime, its endpoint is returned.
   * Otherwise the credential is refreshed, once for all requests with the same rejected credential.
   */
  refresh(source: EndpointSource, rejectedEndpoint: KubeEndpoint): Promise<KubeEndpoint>;
  /** Reports that the API server rejected the fresh credential too. */
  onFreshCredentialRejected(): void;
}

/** Coalesces refreshes, so that many 401 responses at once cause only one run of an exec plugin. */
export function createCredentialRefresher(now: () => number): CredentialRefresher {
  let refreshing: { readonly rejectedEndpoint: KubeEndpoint; readonly fresh: Promise<KubeEndpoint> } | undefined;
  let pausedUntil = Number.NEGATIVE_INFINITY;

  const reload = async (source: EndpointSource, rejectedEndpoint: KubeEndpoint): Promise<KubeEndpoint> => {
    const latest = await source.current();
    if (!sameCredential(latest, rejectedEndpoint) || now() < pausedUntil) return latest;
    source.invalidate();
    // If the refresh fails or changes nothing, the next 401 must not start another one
    // immediately.
    pausedUntil = now() + CREDENTIAL_BACKOFF_MS;
    const fresh = await source.current();
    if (!sameCredential(fresh, rejectedEndpoint)) pausedUntil = Number.NEGATIVE_INFINITY;
    return fresh;
  };

  return {
    refresh(source, rejectedEndpoint) {
      if (refreshing !== undefined && sameCredential(refreshing.rejectedEndpoint, rejectedEndpoint))
        return refreshing.fresh;
      const fresh = reload(source, rejectedEndpoint).finally(() => {
        if (refreshing?.fresh === fresh) refreshing = undefined;
      });
      refreshing = { rejectedEndpoint, fresh };
      return fresh;
    },
    onFreshCredentialRejected() {
      pausedUntil = now() + CREDENTIAL_BACKOFF_MS;
    },
  };
}

/**
 * Whether both endpoints present the same credential to the API server and to proxies on the way.
 */
export function sameCredential(one: KubeEndpoint, other: KubeEndpoint): boolean {
  return one.tls === other.tls && JSON.stringify(one.headers) === JSON.stringify(other.headers);
}
