import t from 'tap';
import { readConfig } from '../../src/config/load.ts';
import { zPages } from '../../src/server/z-pages.ts';

const UPTIME_MS = ((26 * 60 + 3) * 60 + 9) * 1000;
const NOW = Date.UTC(2026, 10, 30, 17, 0, 9);

function pages(env: Record<string, string> = {}, health = { ready: true, apiServerUp: true }) {
  const config = readConfig([], env);
  return zPages({ config, health, version: '1.2.3', wallClock: () => NOW, uptimeMs: () => UPTIME_MS });
}

t.test('/statusz has the form of Kubernetes', async t => {
  t.equal(
    pages().statusz(),
    `gatecar statusz
Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.

Started: Sun Nov 29 14:57:00 UTC 2026
Up: 26 hr 03 min 09 sec
Node.js version: ${process.version}
Binary version: 1.2.3
Mode: tokenreview
Ready: true
API server reachable: true
Paths: /flagz /livez /metrics /readyz /statusz
`,
  );
});

t.test('/statusz has the state as of now', async t => {
  const health = { ready: false, apiServerUp: false };
  const { statusz } = pages({}, health);
  t.match(statusz(), '\nReady: false\nAPI server reachable: false\n');
  health.ready = true;
  t.match(statusz(), '\nReady: true\n');
  const formatOnly = pages({ GATECAR_MODE: 'format-only', GATECAR_LISTEN: '127.0.0.1:1' });
  t.match(formatOnly.statusz(), '\nMode: format-only\nReady: true\nAPI server reachable: not used\n');
});

t.test('by default it uses the clocks of the process', async t => {
  const { statusz } = zPages({ config: readConfig([], {}), health: { ready: true, apiServerUp: true }, version: '1' });
  t.match(statusz(), new RegExp(`^Started: ${new Date().toUTCString().slice(0, 3)} .*\nUp: 0 hr 0\\d min`, 'm'));
});

t.test('/flagz has every setting in force, sorted', async t => {
  const text = pages({ GATECAR_ALLOWED_NAMESPACES: 'ci,dns-system', GATECAR_CACHE_TTL: '90s' }).flagz();
  const [title, warning, empty, ...lines] = text.split('\n');
  t.equal(title, 'gatecar flags');
  t.match(warning, /^Warning: This endpoint is not meant to be machine parseable/);
  t.equal(empty, '');
  t.equal(lines.pop(), '');
  t.strictSame(lines, [...lines].sort());
  for (const line of ['allowed-namespaces=ci,dns-system', 'cache-ttl=90s', 'listen=:9080', 'kube-context=(none)']) {
    t.ok(lines.includes(line), line);
  }
});

t.test('a token in the place of another value is not shown', async t => {
  const token = `eyJhbGciOiJSUzI1NiJ9.${btoa('{"iss":"abcdefgh"}')}.c2lnbmF0dXJl`;
  const text = pages({ GATECAR_TOKEN_AUDIENCES: `bindcar,${token},other`, GATECAR_KUBE_CONTEXT: token }).flagz();
  t.match(text, '\ntoken-audiences=bindcar,[token],other\n');
  t.match(text, '\nkube-context=[token]\n');
  t.notMatch(text, 'eyJ');
});
