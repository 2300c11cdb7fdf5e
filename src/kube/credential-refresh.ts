import type { EndpointSource, KubeEndpoint } from './endpoint.ts';

/** How long after a credential was renewed in vain nobody tries again, in milliseconds: an exec plugin may be costly. */
const BACKOFF_MS = 1000;

export interface CredentialRefresher {
  /**
   * The endpoint to ask after this one's credential was refused: as others have renewed it meanwhile, else read and made
   * anew, once for all who had the same one refused.
   */
  renew(source: EndpointSource, refused: KubeEndpoint): Promise<KubeEndpoint>;
  /** What was renewed has been refused too. */
  inVain(): void;
}

/** Keeps a hundred refusals at once from being a hundred runs of an exec plugin. */
export function createCredentialRefresher(now: () => number): CredentialRefresher {
  let renewing: { readonly refused: KubeEndpoint; readonly fresh: Promise<KubeEndpoint> } | undefined;
  let pausedUntil = Number.NEGATIVE_INFINITY;

  const remake = async (source: EndpointSource, refused: KubeEndpoint): Promise<KubeEndpoint> => {
    const latest = await source.current();
    if (!sameCredential(latest, refused) || now() < pausedUntil) return latest;
    source.drop();
    // Where it fails, or nothing has changed, the next refusal is no reason to try at once again.
    pausedUntil = now() + BACKOFF_MS;
    const fresh = await source.current();
    if (!sameCredential(fresh, refused)) pausedUntil = Number.NEGATIVE_INFINITY;
    return fresh;
  };

  return {
    renew(source, refused) {
      if (renewing !== undefined && sameCredential(renewing.refused, refused)) return renewing.fresh;
      const fresh = remake(source, refused).finally(() => {
        if (renewing?.fresh === fresh) renewing = undefined;
      });
      renewing = { refused, fresh };
      return fresh;
    },
    inVain() {
      pausedUntil = now() + BACKOFF_MS;
    },
  };
}

/** Whether the one shows the API server, and proxies on the way, what the other does. */
export function sameCredential(one: KubeEndpoint, other: KubeEndpoint): boolean {
  return one.tls === other.tls && JSON.stringify(one.headers) === JSON.stringify(other.headers);
}
