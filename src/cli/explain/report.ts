import type { Config } from '../../config/schema.ts';
import type { Credential } from '../../credential/authorization-header.ts';
import { readClaims } from '../../credential/jwt-claims.ts';
import type { Decision } from '../../decision/decision.ts';
import type { Identity } from '../../identity/identity.ts';
import { MAX_TOKEN_LENGTH } from '../../limits/constants.ts';
import { assessClockSkew } from '../check/clock-skew.ts';
import { REMEDIATION } from '../check/remediation.ts';
import { quoteUntrusted } from '../output.ts';
import type { DryRun } from './dry-run.ts';
import { localSteps } from './jwt-report.ts';
import { pass, reject, type Step, type StepOutcome, skipped } from './report-step.ts';

/** Returns the result of each step for one credential, in the order of the pipeline. */
export function buildReport(credential: Credential, run: DryRun, config: Config, nowMs: number): Step[] {
  const steps: Step[] = [{ step: 'credential', ...credentialStep(credential) }];
  const add = (step: string, said: StepOutcome) => steps.push({ step, ...said });
  if (credential.kind !== 'token') return steps;
  if (config.mode === 'format-only') {
    add('mode', {
      result: 'warning',
      text: 'GATECAR_MODE=format-only: nothing is verified, any well-formed token passes',
    });
    return steps;
  }
  const { token } = credential;
  add('prescreen', prescreenStep(run));
  for (const [step, said] of Object.entries(localSteps(token, run, config, nowMs))) add(step, said);
  add('review', reviewStep(run, config));
  add('policy', policyStep(run, config));
  if (run.aheadMs !== undefined) {
    const { result, text, fix } = assessClockSkew(run.aheadMs);
    const tone = { ok: 'passes', warn: 'warning' } as const;
    add('clock', { result: tone[result], text, ...(fix !== undefined && { fix }) });
  }
  return steps;
}

function credentialStep(credential: Credential): StepOutcome {
  switch (credential.kind) {
    case 'token': {
      const form = readClaims(credential.token) === undefined ? 'opaque: it is no JWT' : 'a JWT';
      return pass(`a bearer token of ${credential.token.length} characters, ${form}`);
    }
    case 'absent':
      return reject('there is none');
    case 'other_scheme':
      return reject('it is of another scheme than Bearer');
    case 'malformed':
      return reject('it holds characters, or line ends, that no bearer token has (RFC 6750)');
    case 'empty':
      return reject('the token is empty');
  }
}

function prescreenStep({ rejectedBy }: DryRun): StepOutcome {
  if (rejectedBy === 'length')
    return reject(`longer than ${MAX_TOKEN_LENGTH} characters, which no TokenReview is sent for`);
  if (rejectedBy === 'opaque') return reject('not a JWT, and GATECAR_OPAQUE_TOKENS is reject');
  return pass(`of at most ${MAX_TOKEN_LENGTH} characters`);
}

function reviewStep({ result, report }: DryRun, { tokenAudiences }: Config): StepOutcome {
  switch (result?.kind) {
    case undefined:
      return skipped('not sent: rejected before');
    case 'authenticated': {
      const { username, audiences } = result.identity;
      return pass(`authenticated as ${quoteUntrusted(username)} for ${quoteUntrusted(audiences)}`);
    }
    case 'rejected':
      return reject(rejectionText(result.reason, result.detail, tokenAudiences));
    case 'unavailable': {
      const { cause, fix } = REMEDIATION[result.cause];
      return { result: 'fault', text: `TokenReview failed: ${cause} (${report?.problem})`, fix };
    }
  }
}

function rejectionText(reason: string, detail: string, audiences: readonly string[]): string {
  if (reason === 'audience_mismatch')
    return `authenticated, but not for ${quoteUntrusted(audiences)}: it knows no audiences`;
  if (reason === 'user_missing') return 'authenticated, but it does not say who it is';
  return `not authenticated: ${detail}`;
}

function policyStep({ result, decision }: DryRun, config: Config): StepOutcome {
  if (result?.kind !== 'authenticated') return skipped('no authenticated identity');
  const { allowedNamespaces: namespaces, allowedServiceAccounts: accounts } = config;
  const lists = [
    ...(namespaces ? [`GATECAR_ALLOWED_NAMESPACES is ${quoteUntrusted(namespaces)}`] : []),
    ...(accounts ? [`GATECAR_ALLOWED_SERVICE_ACCOUNTS is ${quoteUntrusted(accounts)}`] : []),
  ].join(', ');
  if (decision.kind === 'deny') {
    return reject(
      `${quoteUntrusted(result.identity.username)} is not allowed: ${lists}`,
      fixPolicy(result.identity, decision, config),
    );
  }
  return pass(lists === '' ? 'no allowlist is set: everybody passes' : lists);
}

function fixPolicy(
  { serviceAccount, username }: Identity,
  { reason }: Extract<Decision, { kind: 'deny' }>,
  config: Config,
): string {
  if (serviceAccount === undefined)
    return 'gatecar serve --help   # no allowlist passes a user that is no ServiceAccount';
  return reason === 'namespace_denied'
    ? `GATECAR_ALLOWED_NAMESPACES=${[config.allowedNamespaces, serviceAccount.namespace].flat()}`
    : `GATECAR_ALLOWED_SERVICE_ACCOUNTS=${[config.allowedServiceAccounts, username].flat()}`;
}
