// `helm test`: sends requests to gatecar with the token of this pod, without a token and with an
// invalid one.
import { readFileSync } from 'node:fs';

const {
  TEST_URL: url,
  TEST_TOKEN_FILE: tokenFile,
  TEST_EXPECT: expected,
  TEST_EXPECT_INVALID: expectedForInvalid,
} = process.env;
const deadline = Date.now() + Number(process.env.TEST_SECONDS ?? 30) * 1000;

async function outcomeOf(authorization) {
  for (;;) {
    try {
      const { status, headers } = await fetch(url, { headers: authorization ? { authorization } : {} });
      const reason = headers.get('x-gatecar-reason');
      if (status !== 503 || Date.now() > deadline) return reason ? `${status} ${reason}` : `${status}`;
    } catch (error) {
      if (Date.now() > deadline) return `none: ${error.cause?.code ?? error.message}`;
    }
    // gatecar may still be starting.
    await new Promise(resolve => setTimeout(resolve, 500));
  }
}

const cases = [
  ['without a token', undefined, /^401/],
  ['with an invalid token', 'Bearer not.a.token', new RegExp(`^${expectedForInvalid}`)],
  ['with a token of this pod', `Bearer ${readFileSync(tokenFile, 'utf8')}`, new RegExp(`^${expected}$`)],
];
for (const [what, authorization, pattern] of cases) {
  const outcome = await outcomeOf(authorization);
  const good = pattern.test(outcome);
  process.stdout.write(`${good ? 'ok' : 'NOT OK'}: ${what}: ${outcome}${good ? '' : `, expected ${pattern.source}`}\n`);
  if (!good) process.exitCode = 1;
}
