import { COMMANDS } from './command-names.ts';
import { GATEWAYS } from './gateway-config/templates.ts';

const NAMES = Object.keys(GATEWAYS);

/** The texts of `gatecar <command> --help`. */
export const COMMAND_HELP = {
  check: `gatecar check: ${COMMANDS.check}.

Usage: gatecar check [--output text|json] [--setting=value ...]

Checks, in this order: the settings (every fault at once), the API server's address and TLS, gatecar's own
credential (which is never printed), a review of an invalid test token, gatecar's rights, audiences, and
clock skew. Past 30 s of skew, gatecar leaves token times to the API server. Then: listed names that do
not exist (if gatecar may read them), the listeners' addresses, and whether cache and connections fit the
memory. A check that depends on a failed one is skipped. Settings: see gatecar --help.

  --output json   one document: { ok: boolean, findings: [{ check, result: ok|warn|fail, text, fix? }] }

Exit code: 0 if nothing fails, 1 if a check fails, 2 usage.

Example: gatecar check --kubeconfig="$HOME/.kube/config"
Example, in its pod:
  kubectl exec --namespace gatecar deployment/gatecar -- /nodejs/bin/node /app/dist/gatecar.js check
`,
  explain: `gatecar explain: ${COMMANDS.explain}.

Usage: gatecar explain [FILE | --file FILE] [--output text|json] [--setting=value ...]

Reads the token from standard input or from FILE. It is never an argument, and never printed. The first
line is the decision with its status. The result of each step follows (credential, prescreen, local
checks, review, policy, clock), then the headers for the upstream, and the unverified claims. The
command sends the same TokenReview as gatecar serve, but uses neither the cache nor the limits of a
running gatecar. Settings: see gatecar --help.

  --file FILE     the file that holds the token; - is standard input
  --output json   one document: { unverified?: { header, claims }, steps: [{ step, result, text, fix? }],
                  decision: { kind, reason?, status, text? }, headers: { name: value }, removed: [name] }

Exit code: 0 allow, 1 deny, 2 usage or settings, 3 the API server is unreachable.

Example: kubectl create token my-app --namespace ci --audience bindcar | gatecar explain
`,
  gateway: `gatecar gateway: ${COMMANDS.gateway}.

Usage: gatecar gateway NAME [FILE] [--setting=value ...]

NAME: ${NAMES.slice(0, 7).join(', ')},
      ${NAMES.slice(7).join(', ')}.
FILE selects another file of the same gateway. Standard error lists them, if there are several.

The output has the address of GATECAR_LISTEN (or GATECAR_GRPC_LISTEN), the header names of
GATECAR_IDENTITY_HEADER_PREFIX, and TLS if gatecar has a certificate. Change the gateway's own address
and that of the application. With default settings, the output is the tested file in examples/.
Settings: see gatecar --help.

Exit code: 0 printed, 1 the output cannot be written, 2 usage or settings, 141 its reader has gone.

Example: gatecar gateway nginx --identity-header-prefix=X-Bind- > nginx.conf
`,
  top: `gatecar top: ${COMMANDS.top}.

Usage: gatecar top [--url URL] [--once] [--setting=value ...]

Reads /metrics of the ops listener every second. Rates and latencies are those of the last 10 seconds;
those of the first page are averages since the start of gatecar. Ctrl-C ends it. If standard output is
not a terminal, it prints one page after the other. Settings: those of gatecar serve, for the address.

  --url URL       the ops listener (default: GATECAR_OPS_LISTEN on this machine)
  --once          prints one page and exits

Exit code: 0 printed, 1 the metrics cannot be read, 2 usage or settings, 130 ended by Ctrl-C,
141 its reader has gone.

Example: gatecar top
Example, for one pod of a Deployment:
  kubectl port-forward --namespace gatecar deployment/gatecar 9081 &
  gatecar top --url http://127.0.0.1:9081
`,
  completion: `gatecar completion: ${COMMANDS.completion}.

Usage: gatecar completion bash|zsh|fish

The script completes commands, flags, values of flags and names of gateways.

  bash   source <(gatecar completion bash)
  zsh    source <(gatecar completion zsh)
  fish   gatecar completion fish | source

Exit code: 0 printed, 1 the output cannot be written, 2 usage, 141 its reader has gone.

Example: gatecar completion bash > ~/.local/share/bash-completion/completions/gatecar
`,
} as const;
