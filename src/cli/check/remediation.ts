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
  'no client': { cause: 'there is no way to the API server', fix: 'gatecar check' },
  timeout: {
    cause: 'the API server does not answer within GATECAR_REVIEW_TIMEOUT',
    fix: 'kubectl get networkpolicies --all-namespaces   # may gatecar reach the API server?',
  },
  'connection refused': { cause: 'nobody listens at the address of the API server', fix: LOOK_AT_ADDRESS },
  'connection reset': { cause: 'the connection was cut', fix: LOOK_AT_API_SERVER },
  'host not found': { cause: 'the name of the API server does not resolve', fix: LOOK_AT_ADDRESS },
  tls: {
    cause: 'the API server is not who its certificate says, by the CA we trust',
    fix: "kubectl config view --raw --minify --output 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d   # the CA for GATECAR_KUBE_CA_FILE",
  },
  'connection failed': { cause: 'the connection fails', fix: LOOK_AT_ADDRESS },
  unauthorized: {
    cause: "the API server refuses gatecar's own credential, not the caller's token",
    fix: 'kubectl create token gatecar --namespace gatecar   # a new one, where the kubelet does not renew it',
  },
  forbidden: { cause: 'gatecar may not create TokenReviews', fix: 'kubectl apply -k rbac/' },
  'too many requests': {
    cause: 'the API server turns requests away (429)',
    fix: 'kubectl get --raw /debug/api_priority_and_fairness/dump_priority_levels',
  },
  'server error': { cause: 'the API server fails (5xx)', fix: LOOK_AT_API_SERVER },
  'unexpected status': { cause: 'whoever answers is no TokenReview API', fix: LOOK_AT_ADDRESS },
  'not a TokenReview': { cause: 'the answer is no TokenReview', fix: LOOK_AT_ADDRESS },
  'response too large': { cause: 'the answer is larger than any TokenReview', fix: LOOK_AT_ADDRESS },
  'too many reviews': { cause: 'too many reviews are in progress', fix: LOOK_AT_API_SERVER },
  waiting_memory_full: {
    cause: 'too many requests wait for a review: the memory for them is full',
    fix: 'gatecar check   # how much memory there is for requests that wait, and what to change',
  },
  transfers_memory_full: {
    cause: 'too many requests are incomplete or have unread answers: the memory for them is full',
    fix: 'gatecar check   # how much memory there is for requests in transfer, and what to change',
  },
  'event loop behind': { cause: 'gatecar has more to do than it can', fix: 'kubectl top pods --namespace gatecar' },
  'internal error': { cause: 'a fault of gatecar itself', fix: 'kubectl logs deployment/gatecar --namespace gatecar' },
};
