import { readFile } from 'node:fs/promises';
import { readConfig } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import { type Credential, parseAuthorization } from '../../credential/authorization-header.ts';
import { readJwt, type UnverifiedJwt } from '../../credential/jwt-claims.ts';
import { redactJwts, redactToken } from '../../credential/token.ts';
import { createResponseRenderer, headerPairs } from '../../gateway/auth-response.ts';
import { REMOVE_HEADER } from '../../identity/identity-headers.ts';
import { EXPLAIN_MAX_INPUT_BYTES, MIN_SECRET_LENGTH } from '../../limits/constants.ts';
import { type CommandContext, readCommand, UsageError } from '../command.ts';
import {
  asciiJson,
  colorizer,
  columns,
  fitText,
  marker,
  type Severity,
  stripControl,
  type Terminal,
} from '../output.ts';
import { type DryRun, dryRun } from './dry-run.ts';
import { buildReport } from './report.ts';
import type { Step } from './report-step.ts';

/** What `gatecar explain --output json` prints. */
export interface Explained {
  /** The token's header and claims, unverified. Absent if the token is not a JWT. */
  readonly unverified?: UnverifiedJwt;
  readonly steps: readonly Step[];
  readonly decision: {
    readonly kind: 'allow' | 'deny' | 'unavailable';
    readonly reason?: string;
    readonly status: number;
    readonly text?: string;
  };
  /** For the upstream if the decision is an allow; otherwise for the gateway's client. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Identity headers without a value. The gateway removes the client's own headers of these names.
   */
  readonly removed: readonly string[];
}

const EXIT_CODES = { allow: 0, deny: 1, unavailable: 3 } as const;

const NEVER_AN_ARGUMENT =
  'a token is never an argument, which every user of this machine can see and shells keep: ' +
  'pipe it in (kubectl create token … | gatecar explain) or name a file that holds it';

/**
 * Runs `gatecar explain`: shows the decision on a token, step by step, with reasons. It calls the
 * API server as the server does. It never prints the token.
 *
 * @returns the exit code: 0 for an allow, 1 for a denial, 3 if the API server is unavailable.
 * @throws {UsageError | ConfigError}
 */
export async function explainCommand(context: CommandContext): Promise<number> {
  const { args, env, terminal, wallClock = Date.now } = context;
  const { own, operands, settings, output } = readCommand(args, ['file']);
  const file = fileOf(own, operands);
  const config = readConfig(settings, env);
  const credential = credentialOf(await input(file, terminal));
  const run = await dryRun(credential, { ...context, config, wallClock });
  const explained = explanationOf(credential, run, config, wallClock());
  const shown = output === 'json' ? `${asciiJson(explained, 2)}\n` : textOf(explained, context);
  terminal.write(withoutToken(shown, credential));
  return EXIT_CODES[explained.decision.kind];
}

/**
 * Redacts the token in the output, as a last safeguard. A short token is not redacted, since it can
 * occur in other words by chance.
 */
function withoutToken(text: string, credential: Credential): string {
  const isSecret = credential.kind === 'token' && credential.token.length >= MIN_SECRET_LENGTH;
  return redactJwts(isSecret ? redactToken(text, credential.token) : text);
}

function fileOf(own: ReadonlyMap<string, string | undefined>, operands: readonly string[]): string | undefined {
  const named = [...(own.has('file') ? [own.get('file')] : []), ...operands];
  if (named.length > 1) throw new UsageError(`explain takes one file; ${NEVER_AN_ARGUMENT}`);
  const [file = '-'] = named;
  return file === '-' ? undefined : file;
}

async function input(file: string | undefined, terminal: Terminal): Promise<string> {
  const bytes = file === undefined ? await terminal.readInput() : await readTokenFile(file);
  if (bytes.length > EXPLAIN_MAX_INPUT_BYTES) throw new UsageError('what was read is far too long for a token');
  const text = bytes.toString('latin1').trim();
  if (text === '') throw new UsageError('nothing was read: a token is expected on standard input, or in a file');
  return text;
}

async function readTokenFile(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch {
    // The user may have passed a token instead of a file name: repeat neither it nor the error.
    throw new UsageError(`the file that was named cannot be read; ${NEVER_AN_ARGUMENT}`);
  }
}

/** Parses the input: a token, or a whole `Authorization` value or header line. */
function credentialOf(text: string): Credential {
  const value = text.replace(/^authorization:\s*/i, '');
  return parseAuthorization(/^(\S+ |bearer$|$)/i.test(value) ? value : `Bearer ${value}`);
}

function explanationOf(credential: Credential, run: DryRun, config: Config, nowMs: number): Explained {
  const { decision } = run;
  const answer = createResponseRenderer(config)(decision);
  const unverified = credential.kind === 'token' ? readJwt(credential.token) : undefined;
  const isAllow = decision.kind === 'allow';
  const shown = [...headerPairs(answer.headers)].filter(([name]) =>
    isAllow ? name.startsWith(config.identityHeaderPrefix) : name !== 'Content-Length',
  );
  const removed = [...headerPairs(answer.headers)].find(([name]) => name === REMOVE_HEADER)?.[1] ?? '';
  return {
    ...(unverified && { unverified }),
    steps: buildReport(credential, run, config, nowMs),
    decision: {
      kind: decision.kind,
      ...(decision.kind !== 'allow' && { reason: decision.reason }),
      status: answer.status,
      ...(answer.text !== '' && { text: answer.text }),
    },
    headers: Object.fromEntries(shown.filter(([, value]) => value !== '')),
    removed: removed === '' ? [] : removed.split(','),
  };
}

const TONES: Readonly<Record<Step['result'] | Explained['decision']['kind'], Severity>> = {
  passes: 'good',
  rejects: 'bad',
  skipped: 'quiet',
  warning: 'doubtful',
  fault: 'bad',
  allow: 'good',
  deny: 'bad',
  unavailable: 'doubtful',
};

/** The columns of the symbol, the name of the step and the spaces around them. */
const FIRST_COLUMN = 16;

/** Formats the result for a person: the decision first, then its reasons. */
function textOf(explained: Explained, { terminal, env }: CommandContext): string {
  const { unverified, steps, decision, headers, removed } = explained;
  const paint = colorizer(terminal, env);
  const mark = marker(terminal, env);
  const rows = steps.map(({ step, result, text, fix }): [string, string] => {
    const line = fitText(`${result}: ${stripControl(text)}`, terminal, FIRST_COLUMN);
    const fixLine = fix === undefined ? '' : `\n${paint('strong', 'fix:')} ${stripControl(fix)}`;
    return [`${mark(TONES[result])}${step}`, paint(TONES[result], result) + line.slice(result.length) + fixLine];
  });
  const { kind, reason, status, text } = decision;
  const name = [kind, ...(reason === undefined ? [] : [reason])].join(', ');
  const detail = text === undefined ? '' : `: ${text}`;
  const listed = columns(Object.entries(headers), '  ');
  const receiver = kind === 'allow' ? 'headers for the upstream' : "headers for the gateway's client";
  const without = removed.length === 0 ? '' : `  removed from the request: ${removed.join(', ')}\n`;
  const claims = unverified
    ? `\n${paint('strong', 'unverified claims:')}\n` +
      `${asciiJson({ ...unverified.header }, 2)}\n${asciiJson(unverified.claims, 2)}\n`
    : '';
  return (
    `${mark(TONES[kind])}decision: ${paint(TONES[kind], name)} (HTTP ${status})${detail}\n\n` +
    `${columns(rows)}\n` +
    `${paint('strong', `${receiver}:`)}\n${listed}${without}${claims}`
  );
}
