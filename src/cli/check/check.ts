import { warnings } from '../../config/cross-setting-rules.ts';
import { ConfigError, readConfig } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import { EndpointError, type KubeEndpoint } from '../../kube/endpoint.ts';
import { createApiClient, createEndpointSource } from '../../kube/endpoint-selection.ts';
import { processMemory } from '../../limits/process-limits.ts';
import { type CommandContext, readCommand, UsageError } from '../command.ts';
import { asciiJson, colorizer, columns, fitText, marker, type Severity, stripControl } from '../output.ts';
import { checkAllowlists } from './allowlists.ts';
import { type CheckResult, fail, ok, warn } from './check-result.ts';
import { assessClockSkew, measureClockSkew } from './clock-skew.ts';
import { checkCredential, ownToken } from './credential.ts';
import { checkEndpoint } from './endpoint.ts';
import { checkListeners } from './listeners.ts';
import { checkMemory } from './memory.ts';
import { checkReview } from './token-review.ts';

/** What `gatecar check --output json` prints. */
export interface Checked {
  /** Whether no check fails. */
  readonly ok: boolean;
  readonly findings: readonly CheckResult[];
}

/**
 * Runs `gatecar check`: reports whether gatecar would work here with these settings. For each
 * failure it reports the reason and the fix.
 *
 * @returns the exit code: 0 if no check fails, 1 otherwise.
 * @throws {UsageError}
 */
export async function checkCommand(context: CommandContext): Promise<number> {
  const { operands, settings, output } = readCommand(context.args);
  if (operands.length > 0) throw new UsageError('check takes settings and nothing else: gatecar check --help');
  const findings = await findingsOf(context, settings);
  const checked: Checked = { ok: findings.every(({ result }) => result !== 'fail'), findings };
  context.terminal.write(output === 'json' ? `${asciiJson(checked, 2)}\n` : textOf(checked, context));
  return checked.ok ? 0 : 1;
}

const TONES: Readonly<Record<CheckResult['result'], Severity>> = { ok: 'good', warn: 'doubtful', fail: 'bad' };

/** The columns of the symbol, the name of the check and the spaces around them. */
const FIRST_COLUMN = 17;

function textOf({ ok, findings }: Checked, { terminal, env }: CommandContext): string {
  const paint = colorizer(terminal, env);
  const mark = marker(terminal, env);
  const rows = findings.map(({ check, result, text, fix }): [string, string] => [
    // On a terminal the symbol stands for the word.
    `${mark(TONES[result]) || `${result.padEnd(4)}  `}${check.padEnd(13)}`,
    `${fitText(stripControl(text), terminal, FIRST_COLUMN)}${fix === undefined ? '' : `\n${paint('strong', 'fix:')} ${stripControl(fix)}`}`,
  ]);
  const count = (wanted: CheckResult['result']) => findings.filter(({ result }) => result === wanted).length;
  const summary = ok ? 'gatecar works with these settings' : `gatecar does not work here: ${count('fail')} failed`;
  const doubts = count('warn') === 0 ? '' : ` (warnings: ${count('warn')})`;
  const tone = ok ? 'good' : 'bad';
  return `${columns(rows)}\n${mark(tone)}${paint(tone, summary)}${doubts}\n`;
}

async function findingsOf(context: CommandContext, settings: readonly string[]): Promise<CheckResult[]> {
  const { env, wallClock = Date.now } = context;
  let config: Config;
  try {
    config = readConfig(settings, env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.faults.map(fault => fail('configuration', fault, 'gatecar --help'));
  }
  const doubts = warnings(config).map(text => warn('configuration', text));
  return [
    ...(doubts.length > 0 ? doubts : [ok('configuration', 'configuration is valid')]),
    ...(config.mode === 'format-only' ? [] : await checkApiServer(config, context, wallClock)),
    ...(await checkListeners(config, wallClock())),
    checkMemory(config, processMemory()),
  ];
}

/**
 * Checks the API server, starting with its address. If a check fails that all later checks need,
 * they are skipped.
 */
async function checkApiServer(
  config: Config,
  context: CommandContext,
  wallClock: () => number,
): Promise<CheckResult[]> {
  let endpoint: KubeEndpoint;
  try {
    endpoint = await (await createEndpointSource(config, context.runtimeEnvironment)).current();
  } catch (error) {
    if (!(error instanceof EndpointError)) throw error;
    return [fail('credential', error.message, fixEndpoint(error.message))];
  }
  const way = await checkEndpoint(endpoint, config.reviewTimeoutMs, wallClock());
  const found = [...way, checkCredential(endpoint, wallClock())];
  if (way.some(({ result }) => result === 'fail')) return found;
  const clock = measureClockSkew(createApiClient(config, context.runtimeEnvironment, context.version), wallClock);
  try {
    found.push(...(await checkReview({ connection: clock.connection, config, token: ownToken(endpoint) })));
    found.push(clockFinding(clock.aheadMs));
    const canAsk = found.every(({ check, result }) => check !== 'review' || result === 'ok');
    if (canAsk) found.push(...(await checkAllowlists(clock.connection, config)));
    return found;
  } finally {
    await clock.connection.close();
  }
}

function fixEndpoint(message: string): string {
  if (/^kubeconfig .* cannot be read: ENOENT$/.test(message)) {
    return 'ls ~/.kube   # the file does not exist; set GATECAR_KUBECONFIG to one that does';
  }
  if (message.startsWith('kubeconfig')) return 'kubectl config view   # for GATECAR_KUBECONFIG';
  if (message.includes('/var/run/secrets/')) return 'kubectl describe pod   # does it mount a ServiceAccount token?';
  return 'gatecar --help   # GATECAR_KUBE_API_URL, GATECAR_KUBE_TOKEN_FILE, GATECAR_KUBE_CA_FILE, GATECAR_KUBECONFIG';
}

function clockFinding(aheadMs: number | undefined): CheckResult {
  if (aheadMs === undefined) return ok('clock', 'not compared: the server sends no Date header');
  return { check: 'clock', ...assessClockSkew(aheadMs) };
}
