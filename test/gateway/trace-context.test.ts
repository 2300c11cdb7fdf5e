import t from 'tap';
import { readTraceContext } from '../../src/gateway/trace-context.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

t.test('a traceparent yields trace ID, span ID and flags', async t => {
  t.strictSame(readTraceContext({ traceparent: `00-${TRACE}-${SPAN}-01` }), {
    traceId: TRACE,
    spanId: SPAN,
    flags: 1,
    state: undefined,
  });
  t.match(readTraceContext({ traceparent: `00-${TRACE}-${SPAN}-ff` }), { flags: 255 });
});

t.test('a traceparent of a later version is read by the fields of version 00', async t => {
  for (const traceparent of [
    `01-${TRACE}-${SPAN}-00`,
    `cc-${TRACE}-${SPAN}-00-what.comes`,
    `fe-${TRACE}-${SPAN}-00-`,
  ]) {
    t.match(readTraceContext({ traceparent }), { traceId: TRACE, spanId: SPAN, flags: 0 }, traceparent);
  }
});

t.test('an invalid traceparent is ignored', async t => {
  // biome-ignore format: a table
  for (const traceparent of [
    undefined, '', 'x', `00-${TRACE}-${SPAN}`, `00-${TRACE}-${SPAN}-0`, `00-${TRACE}-${SPAN}-011`,
    `00-${TRACE}-${SPAN}-01-`, `00-${TRACE}-${SPAN}-01-more`, `01-${TRACE}-${SPAN}-01.more`,
    `ff-${TRACE}-${SPAN}-01`, `0-${TRACE}-${SPAN}-01`, `00_${TRACE}-${SPAN}-01`, ` 00-${TRACE}-${SPAN}-01`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`, `00-${TRACE}-${SPAN.toUpperCase()}-01`, `0X-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`, `00-${TRACE}-${'0'.repeat(16)}-01`, `00-${TRACE.slice(1)}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-0\n`, `00-${TRACE}-${SPAN}-01\n`,
  ]) {
    t.equal(readTraceContext({ traceparent }), undefined, JSON.stringify(traceparent));
  }
  t.equal(readTraceContext({ traceparent: [`00-${TRACE}-${SPAN}-01`] }), undefined);
});

t.test('a tracestate is kept unless it is longer than 512 characters', async t => {
  const traceparent = `00-${TRACE}-${SPAN}-01`;
  const state = (tracestate?: string) => readTraceContext({ traceparent, tracestate })?.state;
  t.equal(state('congo=t61rcWkgMzE,rojo=1'), 'congo=t61rcWkgMzE,rojo=1');
  t.equal(state('a'.repeat(512))?.length, 512);
  for (const ignored of [undefined, '', 'a'.repeat(513)]) t.equal(state(ignored), undefined);
});
