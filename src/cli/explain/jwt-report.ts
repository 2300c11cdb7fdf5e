import { type ClaimCheck, findClaimViolations } from '../../authentication/jwt-precheck.ts';
import type { Config } from '../../config/schema.ts';
import { readClaims, readJwt, type UnverifiedClaims } from '../../credential/jwt-claims.ts';
import type { Token } from '../../credential/token.ts';
import { parseServiceAccount } from '../../identity/identity.ts';
import { quoteUntrusted } from '../output.ts';
import type { DryRun } from './dry-run.ts';
import { pass, reject, type StepOutcome, skipped } from './report-step.ts';

const LOCAL_STEPS = ['issuer', 'audience', 'expiry', 'not before', 'signature'] as const;
type LocalStep = (typeof LOCAL_STEPS)[number];

/**
 * Returns the results of the checks before the review. After a rejection the remaining checks run
 * too, so that the report has all of them.
 */
export function localSteps(token: Token, run: DryRun, config: Config, nowMs: number): Record<string, StepOutcome> {
  const whole = skipReason(token, run, config);
  if (whole !== undefined) return { 'local checks': skipped(whole) };
  const claims = readClaims(token) as UnverifiedClaims;
  const found = findClaimViolations(claims, config.tokenAudiences, nowMs);
  const isRejected = (check: ClaimCheck) => found.some(one => one.check === check);
  const newToken = tokenCommand(token, config);
  const said: Record<LocalStep, StepOutcome> = {
    issuer: pass(`${quoteUntrusted(claims.issuer)}, the cluster's own`),
    audience: audienceStep(claims, config, isRejected('audience'), newToken),
    expiry: ifClocksAgree(run, expiryStep(claims, nowMs, isRejected('expired'), newToken)),
    'not before': ifClocksAgree(run, notBeforeStep(claims, isRejected('not_yet_valid'))),
    signature: signatureStep(run, config),
  };
  return said;
}

function skipReason(token: Token, { rejectedBy, keys, keysProblem }: DryRun, config: Config): string | undefined {
  if (rejectedBy === 'length' || rejectedBy === 'opaque') return 'rejected before';
  if (config.jwtPrecheck === 'off') return 'GATECAR_JWT_PRECHECK is off';
  const claims = readClaims(token);
  if (claims === undefined) return 'an opaque token has nothing to check here';
  const issuer = keys?.issuer;
  if (issuer === undefined) return `the cluster's issuer and keys could not be had: ${quoteUntrusted(keysProblem)}`;
  if (claims.issuer === issuer) return undefined;
  return `the issuer ${quoteUntrusted(claims.issuer)} is not the cluster's own, ${quoteUntrusted(issuer)}: the API server decides`;
}

/**
 * Returns the command that creates a token like this one for the configured audience. It names the
 * ServiceAccount of the unverified claims, if that is a valid name.
 */
function tokenCommand(token: Token, { tokenAudiences: [audience] }: Config): string {
  const account = parseServiceAccount(String(readJwt(token)?.claims['sub']));
  const { name, namespace } = account ?? { name: 'NAME', namespace: 'NAMESPACE' };
  const forAudience = audience === undefined ? '' : ` --audience ${audience}`;
  return `kubectl create token ${name} --namespace ${namespace}${forAudience}`;
}

function audienceStep(
  { audiences }: UnverifiedClaims,
  { tokenAudiences: asked }: Config,
  isRejected: boolean,
  newToken: string,
): StepOutcome {
  if (asked.length === 0) return skipped('GATECAR_TOKEN_AUDIENCES is empty: the API server takes its own');
  if (audiences === undefined) return skipped('it has no list of audiences: the API server decides');
  const text = `for ${quoteUntrusted(audiences)}; GATECAR_TOKEN_AUDIENCES is ${quoteUntrusted(asked)}`;
  return isRejected ? reject(text, newToken) : pass(text);
}

/** Ignores a rejection by `exp` or `nbf` unless the API server's clock agrees with gatecar's. */
function ifClocksAgree({ clockState }: DryRun, said: StepOutcome): StepOutcome {
  if (said.result !== 'rejects' || clockState === 'agrees') return said;
  return skipped(`${said.text}; not compared with the API server's clock, or too far from it: the API server decides`);
}

function expiryStep(
  { expiresAtMs }: UnverifiedClaims,
  nowMs: number,
  isRejected: boolean,
  newToken: string,
): StepOutcome {
  if (expiresAtMs === undefined) return pass('it never expires: a legacy token');
  const text = `${nowMs > expiresAtMs ? 'expired' : 'expires'} ${time(expiresAtMs)}; it is ${time(nowMs)} here`;
  return isRejected ? reject(text, `${newToken}   # or mount one that is rotated`) : pass(text);
}

function notBeforeStep({ notBeforeMs }: UnverifiedClaims, isRejected: boolean): StepOutcome {
  if (notBeforeMs === undefined) return pass('it has no nbf');
  const text = `valid from ${time(notBeforeMs)} on`;
  return isRejected ? reject(text, 'gatecar check   # compares this clock with that of the API server') : pass(text);
}

/** Formats a time, which may be outside the range of `Date`. */
function time(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? 'at a time that is out of range' : date.toISOString();
}

function signatureStep({ signature }: DryRun, { jwtPrecheck }: Config): StepOutcome {
  if (jwtPrecheck !== 'signature') return skipped('GATECAR_JWT_PRECHECK is claims');
  switch (signature) {
    case 'valid':
      return pass("one of the cluster's keys made it");
    case 'invalid':
      return reject("it names one of the cluster's keys, which did not make it");
    default:
      return skipped(
        'it names no key that the cluster publishes, or is in a form that is not read here: the API server decides',
      );
  }
}
