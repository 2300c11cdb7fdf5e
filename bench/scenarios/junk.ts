import { once } from 'node:events';
import { join } from 'node:path';
import { ask } from '../../test/fixtures/ask.ts';
import { startBareHttp } from '../bare.ts';
import { benchAuthority } from '../dev-authority.ts';
import { startGatecar } from '../gatecar.ts';
import { wrk } from '../load.ts';
import { startMeasured } from '../measured-process.ts';
import type { Scenario } from '../scenario.ts';
import { takeTurns, tell } from '../take-turns.ts';

export const junk: Scenario = {
  name: 'junk',
  about: 'refusals without a review, of what is no token and of tokens whose signature is wrong',
  tools: ['wrk'],
  async run(bench) {
    const authority = await benchAuthority(bench);
    const gatecar = await startGatecar(bench, authority.settings);
    // Signatures are judged once the first question has had the keys asked for.
    await ask(gatecar.auth, { token: authority.token });
    while ((await gatecar.metric('gatecar_cluster_keys_readable')) !== 1);
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
    tell(bench, 'refusals/s, malformed', 'perSecond', samples, { of: 'ratio', bound: '≥', limit: 0.9 });
    tell(bench, 'core time, µs, malformed', 'cpuUs', samples);

    // The same load, and the same core's time for one verification after the other: together the least that it can take.
    const [head = '', payload = '', signature = ''] = authority.token.split('.');
    const script: [string, ...string[]] = ['junk.lua', 'forged', `${head}.${payload}`, signature];
    const forged = `${head}.${payload}.${signature.slice(0, 100)}AAAA${signature.slice(104)}`;
    const bareForged = await startBareHttp(bench, `${gatecar.auth}/auth`, { Authorization: `Bearer ${forged}` });
    const verifier = await startMeasured(bench, {
      name: 'verifications',
      args: [join(import.meta.dirname, '../servers/verify-loop.ts')],
      ready: line => line,
    });
    const verified = async (seconds: number) => {
      verifier.write(JSON.stringify({ seconds }));
      const [line] = await once(verifier.lines, 'line');
      const perSecond = Number(line);
      return { requests: perSecond * seconds, perSecond, p50Ms: Number.NaN, p99Ms: Number.NaN };
    };
    const [plain, verifications, refusals] = await takeTurns(bench, [
      { ...bareForged, load: seconds => wrk({ url: `${bareForged.url}/auth`, script, seconds, refused: true }) },
      { name: 'RS256 verifications', pid: verifier.pid, load: verified },
      { ...gatecar, load: seconds => wrk({ url: `${gatecar.auth}/auth`, script, seconds, refused: true }) },
    ]);
    if (!plain || !verifications || !refusals) throw new Error('nobody took a turn');
    const least = {
      ...plain,
      name: 'bare node:http and one verification',
      perSecond: plain.perSecond.map((rate, round) => 1 / (1 / rate + 1 / (verifications.perSecond[round] ?? 0))),
      cpuUs: plain.cpuUs.map((time, round) => time + (verifications.cpuUs[round] ?? 0)),
    };
    const what = 'refusals/s, wrongly signed';
    bench.row({ what, by: plain.name, values: plain.perSecond });
    bench.row({ what: 'verifications/s', by: 'node:crypto, one core', values: verifications.perSecond });
    tell(bench, what, 'perSecond', [least, refusals], { of: 'ratio', bound: '≥', limit: 0.9 });
    tell(bench, 'core time, µs, wrongly signed', 'cpuUs', [least, refusals]);
    bench.check('junk is never asked about', authority.reviews === before);
  },
};
