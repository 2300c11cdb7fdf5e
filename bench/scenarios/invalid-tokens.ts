import { sendRequest } from '../../test/fixtures/send-request.ts';
import { startBareHttp } from '../baseline.ts';
import { benchAuthority } from '../dev-authority.ts';
import { startGatecar } from '../gatecar.ts';
import { report, takeTurns } from '../interleave.ts';
import { wrk } from '../load.ts';
import type { Scenario } from '../scenario.ts';

export const invalidTokens: Scenario = {
  name: 'invalid-tokens',
  about: 'rejections without a review: malformed tokens and tokens with an invalid signature',
  tools: ['wrk'],
  async run(bench) {
    const authority = await benchAuthority(bench);
    const gatecar = await startGatecar(bench, authority.settings);
    // gatecar fetches the JWKS after the first review, and checks signatures from then on.
    await sendRequest(gatecar.auth, { token: authority.token });
    while ((await gatecar.metric('gatecar_jwks_available')) !== 1);
    const before = authority.reviews;

    const malformed = { Authorization: 'Bearer <no token has these characters>' };
    const bare = await startBareHttp(bench, `${gatecar.auth}/auth`, malformed);
    const answers = [bare.url, gatecar.auth].map(url => `${url}/auth`);
    const samples = await takeTurns(
      bench,
      [bare, gatecar].map(({ name, pid }, at) => {
        const url = answers[at] ?? '';
        return { name, pid, load: seconds => wrk({ url, headers: malformed, seconds, refused: true }) };
      }),
    );
    report(bench, 'rejections/s, malformed', 'perSecond', samples, { of: 'ratio', bound: '≥', limit: 0.9 });
    report(bench, 'core time, µs, malformed', 'cpuUs', samples);

    const [head = '', payload = '', signature = ''] = authority.token.split('.');
    const script: [string, ...string[]] = ['invalid-tokens.lua', 'forged', `${head}.${payload}`, signature];
    const forged = `${head}.${payload}.${signature.slice(0, 100)}AAAA${signature.slice(104)}`;
    const verifying = await startBareHttp(
      bench,
      `${gatecar.auth}/auth`,
      { Authorization: `Bearer ${forged}` },
      authority.key,
    );
    const judged = await takeTurns(bench, [
      { ...verifying, load: seconds => wrk({ url: `${verifying.url}/auth`, script, seconds, refused: true }) },
      { ...gatecar, load: seconds => wrk({ url: `${gatecar.auth}/auth`, script, seconds, refused: true }) },
    ]);
    report(bench, 'rejections/s, invalid signature', 'perSecond', judged, { of: 'ratio', bound: '≥', limit: 0.9 });
    report(bench, 'core time, µs, invalid signature', 'cpuUs', judged);
    bench.check('invalid tokens cost no review', authority.reviews === before);
  },
};
