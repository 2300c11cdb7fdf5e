import { GATEWAYS } from './gateway-config/templates.ts';

const NAMES = Object.keys(GATEWAYS);

/** The texts of `gatecar <command> --help`. */
export const COMMAND_HELP = {
  check: `gatecar check: whether these settings work here; if not, why, and the command that fixes it.

Usage: gatecar check [--output text|json] [--setting=value ...]

Looks, in this order, at the settings (every fault at once), the API server's address, its TLS, our own
credential (which is never printed), a trial review of a made-up token, our rights, audiences, the
difference of the clocks (a warning past 30 s: token times are then left to the API server),
allowlists that name what is not there (where we may look), the listeners' addresses, and whether
cache and connections fit the memory. What needs something that failed is left out. Settings:
those of gatecar serve, see gatecar --help.

  --output json   one document: { ok: boolean, findings: [{ check, result: ok|warn|fail, text, fix? }] }

Exit code: 0 where nothing fails, 1 where something does, 2 usage.

Example: gatecar check --kubeconfig="$HOME/.kube/config"
Example, in its pod:
  kubectl exec --namespace gatecar deployment/gatecar -- /nodejs/bin/node /app/dist/gatecar.js check
`,
  explain: `gatecar explain: what would be decided about a token, step by step, and why.

Usage: gatecar explain [FILE | --file FILE] [--output text|json] [--setting=value ...]

The token is read from standard input, or from FILE; it is never an argument, and never printed. The
first line is the decision with its status. What follows is the result of each step (credential,
prescreen, local checks, review, policy, clock), the headers for the upstream, and the unverified claims.
The API server is asked as the server would ask; the cache and the limits of a running gatecar are not
looked at. Settings: those of gatecar serve, see gatecar --help.

  --file FILE     the file that holds the token; - is standard input
  --output json   one document: { unverified?: { header, claims }, steps: [{ step, result, text, fix? }],
                  decision: { kind, reason?, status, text? }, headers: { name: value }, removed: [name] }

Exit code: 0 allow, 1 deny, 2 usage or settings, 3 the API server could not be asked.

Example: kubectl create token my-app --namespace ci --audience bindcar | gatecar explain
`,
  gateway: `gatecar gateway: prints a gateway's configuration for the settings in force.

Usage: gatecar gateway NAME [FILE] [--setting=value ...]

NAME: ${NAMES.slice(0, 7).join(', ')},
      ${NAMES.slice(7).join(', ')}.
FILE is another file of the same gateway, where it has more than one; they are named on standard error.

What is printed has the address of GATECAR_LISTEN (or GATECAR_GRPC_LISTEN), the header names of
GATECAR_IDENTITY_HEADER_PREFIX, and TLS where gatecar has it; the gateway's own address and that
of the application are left to you.
With default settings it is the file below examples/ that the tests run. Settings: see gatecar --help.

Exit code: 0 printed, 1 the output cannot be written, 2 usage or settings, 141 its reader has gone.

Example: gatecar gateway nginx --identity-header-prefix=X-Bind- > nginx.conf
`,
  top: `gatecar top: decisions, hit rate, reviews and latency of a running gatecar, live.

Usage: gatecar top [--url URL] [--once] [--setting=value ...]

Reads /metrics of the ops listener every second. Rates and latencies are those of the last 10 seconds;
those of the first page are averages since the start of gatecar. Ctrl-C ends it. If standard output is
no terminal, it prints one page after the other. Settings: those of gatecar serve, for the address.

  --url URL       the ops listener (default: GATECAR_OPS_LISTEN on this machine)
  --once          prints one page and exits

Exit code: 0 printed, 1 the metrics cannot be read, 2 usage or settings, 130 ended by Ctrl-C.

Example: gatecar top
Example, for one pod of a Deployment:
  kubectl port-forward --namespace gatecar deployment/gatecar 9081 &
  gatecar top --url http://127.0.0.1:9081
`,
  completion: `gatecar completion: prints a completion script for a shell.

Usage: gatecar completion bash|zsh|fish

The script completes commands, flags, values of flags and names of gateways.

  bash   source <(gatecar completion bash)
  zsh    source <(gatecar completion zsh)
  fish   gatecar completion fish | source

Exit code: 0 printed, 1 the output cannot be written, 2 usage, 141 its reader has gone.

Example: gatecar completion bash > ~/.local/share/bash-completion/completions/gatecar
`,
} as const;
