import type { UnavailableCause } from '../../decision/decision.ts';

/** Why a review failed, and the command to run next. */
export interface Remediation {
  readonly cause: string;
  readonly fix: string;
}

const LOOK_AT_API_SERVER = 'kubectl get --raw /readyz?verbose';
const LOOK_AT_ADDRESS = 'gatecar check   # GATECAR_KUBE_API_URL, GATECAR_KUBECONFIG: is it the right address?';

/** The cause of each class of outage, and the command that fixes or investigates it. */
export const REMEDIATION: { readonly [C in UnavailableCause]: Remediation } = {
  client_unavailable: { cause: 'gatecar has no usable configuration for the API server', fix: 'gatecar check' },
  timeout: {
    cause: 'the API server does not answer within GATECAR_REVIEW_TIMEOUT',
    fix: 'kubectl get networkpolicies --all-namespaces   # may gatecar reach the API server?',
  },
  connection_refused: { cause: "no process listens at the API server's address", fix: LOOK_AT_ADDRESS },
  connection_reset: { cause: 'the connection was closed', fix: LOOK_AT_API_SERVER },
  dns_failure: { cause: 'the name of the API server does not resolve', fix: LOOK_AT_ADDRESS },
  tls: {
    cause: "the API server's certificate is not valid for its address and the configured CA",
    fix: "kubectl config view --raw --minify --output 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d   # the CA for GATECAR_KUBE_CA_FILE",
  },
  connection_failed: { cause: 'the connection fails', fix: LOOK_AT_ADDRESS },
  unauthorized: {
    cause: "the API server rejects gatecar's own credential, not the caller's token",
    fix: 'kubectl create token gatecar --namespace gatecar   # a new token, if the kubelet does not rotate it',
  },
  forbidden: {
    cause: 'gatecar may not create TokenReviews',
    fix: 'kubectl apply -k rbac/   # with Helm: helm upgrade gatecar charts/gatecar --namespace gatecar --reuse-values --set rbac.create=true',
  },
  too_many_requests: {
    cause: 'the API server throttles requests (429)',
    fix: 'kubectl get --raw /debug/api_priority_and_fairness/dump_priority_levels',
  },
  server_error: { cause: 'the API server fails (5xx)', fix: LOOK_AT_API_SERVER },
  unexpected_status: { cause: 'the server at this address does not serve the TokenReview API', fix: LOOK_AT_ADDRESS },
  invalid_response: { cause: 'the response is not a TokenReview', fix: LOOK_AT_ADDRESS },
  response_too_large: { cause: 'the response is larger than any TokenReview', fix: LOOK_AT_ADDRESS },
  too_many_reviews: { cause: 'too many reviews are in progress', fix: LOOK_AT_API_SERVER },
  waiting_memory_full: {
    cause: 'too many requests wait for a review: the memory for them is full',
    fix: 'gatecar check   # shows the memory for waiting requests and the setting to change',
  },
  transfers_memory_full: {
    cause: 'too many requests are incomplete or have unread responses: the memory for them is full',
    fix: 'gatecar check   # shows the memory for requests in transfer and the setting to change',
  },
  event_loop_lag: { cause: 'gatecar is overloaded', fix: 'kubectl top pods --namespace gatecar' },
  internal_error: { cause: 'an error in gatecar itself', fix: 'kubectl logs deployment/gatecar --namespace gatecar' },
};
