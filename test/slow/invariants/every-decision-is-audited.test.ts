import { randomBytes } from 'node:crypto';
import { Agent } from 'node:http';
import t from 'tap';
import { auditLines, faultsOf } from '../../fixtures/audit-lines.ts';
import { startGatecarProcess } from '../../fixtures/gatecar-process.ts';
import { metric } from '../../fixtures/metrics.ts';
import { sendRequest } from '../../fixtures/send-request.ts';
import { accepts, startStandIn } from '../../fixtures/stand-in-api-server.ts';

const MIB = 1024 * 1024;

t.test('on SIGTERM every audit line is written before the process exits', async t => {
  const standIn = await startStandIn(accepts());
  t.teardown(() => standIn.close());
  const gatecar = await startGatecarProcess({
    GATECAR_KUBE_API_URL: standIn.url,
    GATECAR_AUDIT_LOG: 'all',
    GATECAR_LOG_LEVEL: 'info',
  });
  t.teardown(() => gatecar.stop());
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  await Promise.all(Array.from({ length: 2000 }, () => sendRequest(gatecar.auth, { token: 'good', agent })));
  agent.destroy();
  gatecar.kill('SIGTERM');
  t.equal(await gatecar.exitCode, 0);
  t.equal(auditLines(gatecar.output()).length, 2000);
});

t.test(
  'an audit log that is not read delays no response: excess lines are dropped, counted and missing by number',
  async t => {
    const standIn = await startStandIn(accepts());
    t.teardown(() => standIn.close());
    const gatecar = await startGatecarProcess({
      GATECAR_KUBE_API_URL: standIn.url,
      GATECAR_AUDIT_LOG: 'all',
      GATECAR_TRUSTED_PROXIES: '127.0.0.1',
      // `info` logs no line for an allow.
      GATECAR_LOG_LEVEL: 'info',
    });
    t.teardown(() => gatecar.stop());
    const agent = new Agent({ keepAlive: true, maxSockets: 16 });
    t.teardown(() => agent.destroy());
    const headers = Object.fromEntries(
      ['X-Request-ID', 'X-Original-URI'].map(name => [name, randomBytes(128).toString('hex')]),
    );
    const wrong: unknown[] = [];
    const flood = async (count: number) => {
      for (let left = count; left > 0; left -= 500) {
        const replies = Array.from({ length: 500 }, () => sendRequest(gatecar.auth, { token: 'good', agent, headers }));
        wrong.push(...(await Promise.all(replies)).filter(({ status }) => status !== 200));
      }
    };
    gatecar.stopReading();
    await flood(6000);
    const before = await gatecar.memory();
    t.ok((await metric(gatecar.ops, 'gatecar_log_lines_dropped_total')) > 0);
    await flood(4000);
    const grown = ((await gatecar.memory()).heapUsed - before.heapUsed) / MIB;
    t.strictSame(wrong, []);
    t.ok(grown < 4, `the heap grew by ${grown.toFixed(1)} MiB`);
    const dropped = await metric(gatecar.ops, 'gatecar_log_lines_dropped_total');

    gatecar.readAgain();
    gatecar.kill('SIGTERM');
    await gatecar.exitCode;
    const lines = auditLines(gatecar.output());
    t.equal(lines.length + dropped, 10_000);
    t.ok(lines.every(({ sequence }, index) => sequence > (lines[index - 1]?.sequence ?? 0)));
    t.strictSame(faultsOf(lines), [], 'no line is truncated or mixed with another');
  },
);
