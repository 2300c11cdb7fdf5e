// `helm test`: asks gatecar with a token of this pod's own, without one and with a made-up one.
import { readFileSync } from 'node:fs';

const { ASK_URL: url, ASK_TOKEN_FILE: tokenFile, ASK_EXPECT: expected, ASK_EXPECT_MADE_UP: madeUp } = process.env;
const deadline = Date.now() + Number(process.env.ASK_SECONDS ?? 30) * 1000;

async function answer(authorization) {
  for (;;) {
    try {
      const { status, headers } = await fetch(url, { headers: authorization ? { authorization } : {} });
      const reason = headers.get('x-gatecar-reason');
      if (status !== 503 || Date.now() > deadline) return reason ? `${status} ${reason}` : `${status}`;
    } catch (error) {
      if (Date.now() > deadline) return `none: ${error.cause?.code ?? error.message}`;
    }
    // It may have been installed a moment ago.
    await new Promise(resolve => setTimeout(resolve, 500));
  }
}

const questions = [
  ['without a token', undefined, /^401/],
  ['with a made-up token', 'Bearer made.up.token', new RegExp(`^${madeUp}`)],
  ['with a token of this pod', `Bearer ${readFileSync(tokenFile, 'utf8')}`, new RegExp(`^${expected}$`)],
];
for (const [what, authorization, pattern] of questions) {
  const got = await answer(authorization);
  const good = pattern.test(got);
  process.stdout.write(`${good ? 'ok' : 'NOT OK'}: ${what}: ${got}${good ? '' : `, expected ${pattern.source}`}\n`);
  if (!good) process.exitCode = 1;
}
