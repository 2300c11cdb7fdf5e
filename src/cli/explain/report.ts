import { MAX_TOKEN_LENGTH } from '../../authentication/token-screening.ts';
import type { Config } from '../../config/schema.ts';
import type { Credential } from '../../credential/authorization-header.ts';
import { readClaims } from '../../credential/jwt-claims.ts';
import type { Decision } from '../../decision/decision.ts';
import type { Identity } from '../../identity/identity.ts';
import { judgeClocks } from '../check/clock-skew.ts';
import type { Walk } from './dry-run.ts';
import { localSteps } from './jwt-report.ts';
import { REMEDIES } from '../check/remediation.ts';
import { passes, refuses, type Said, type Step, skipped } from './report-step.ts';
import { quoted } from '../output.ts';

/** What each step said about one credential, in the order of the corridor. */
export function stepsOf(credential: Credential, walk: Walk, config: Config, nowMs: number): Step[] {
  const steps: Step[] = [{ step: 'credential', ...credentialStep(credential) }];
  const add = (step: string, said: Said) => steps.push({ step, ...said });
  if (credential.kind !== 'token') return steps;
  if (config.mode === 'basic') {
    add('mode', { result: 'warning', text: 'GATECAR_MODE=basic: nothing is verified, any well-formed token passes' });
    return steps;
  }
  const { token } = credential;
  add('prescreen', prescreenStep(walk));
  for (const [step, said] of Object.entries(localSteps(token, walk, config, nowMs))) add(step, said);
  add('review', reviewStep(walk, config));
  add('policy', policyStep(walk, config));
  if (walk.aheadMs !== undefined) {
    const { result, text, mend } = judgeClocks(walk.aheadMs);
    const tone = { ok: 'passes', warn: 'warning' } as const;
    add('clock', { result: tone[result], text, ...(mend !== undefined && { mend }) });
  }
  return steps;
}

function credentialStep(credential: Credential): Said {
  switch (credential.kind) {
    case 'token': {
      const form = readClaims(credential.token) === undefined ? 'opaque: it is no JWT' : 'a JWT';
      return passes(`a bearer token of ${credential.token.length} characters, ${form}`);
    }
    case 'absent':
      return refuses('there is none');
    case 'foreign':
      return refuses('it is of another scheme than Bearer');
    case 'malformed':
      return refuses('it holds characters, or line ends, that no bearer token has (RFC 6750)');
    case 'empty':
      return refuses('the token is empty');
  }
}

function prescreenStep({ refusedBy }: Walk): Said {
  if (refusedBy === 'length') return refuses(`longer than ${MAX_TOKEN_LENGTH} characters, which nobody is asked about`);
  if (refusedBy === 'opaque') return refuses('no JWT, and GATECAR_OPAQUE_TOKENS is refuse');
  return passes(`of at most ${MAX_TOKEN_LENGTH} characters`);
}

function reviewStep({ verdict, report }: Walk, { tokenAudiences }: Config): Said {
  switch (verdict?.kind) {
    case undefined:
      return skipped('not asked: refused before');
    case 'accepted': {
      const { username, audiences } = verdict.identity;
      return passes(`authenticated as ${quoted(username)} for ${quoted(audiences)}`);
    }
    case 'refused':
      return refuses(refusalText(verdict.reason, verdict.detail, tokenAudiences));
    case 'unavailable': {
      const { cause, mend } = REMEDIES[verdict.cause];
      return { result: 'fault', text: `could not ask: ${cause} (${report?.problem})`, mend };
    }
  }
}

function refusalText(reason: string, detail: string, audiences: readonly string[]): string {
  if (reason === 'audience_mismatch') return `authenticated, but not for ${quoted(audiences)}: it knows no audiences`;
  if (reason === 'user_missing') return 'authenticated, but it does not say who it is';
  return `not authenticated: ${detail}`;
}

function policyStep({ verdict, decision }: Walk, config: Config): Said {
  if (verdict?.kind !== 'accepted') return skipped('nobody to judge');
  const { allowedNamespaces: namespaces, allowedServiceAccounts: accounts } = config;
  const lists = [
    ...(namespaces ? [`GATECAR_ALLOWED_NAMESPACES is ${quoted(namespaces)}`] : []),
    ...(accounts ? [`GATECAR_ALLOWED_SERVICE_ACCOUNTS is ${quoted(accounts)}`] : []),
  ].join(', ');
  if (decision.kind === 'deny') {
    return refuses(
      `${quoted(verdict.identity.username)} is not allowed: ${lists}`,
      mendPolicy(verdict.identity, decision, config),
    );
  }
  return passes(lists === '' ? 'no allowlist is set: everybody passes' : lists);
}

function mendPolicy(
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
