import t from 'tap';
import { readTracingSettings } from '../../src/config/tracing-settings.ts';

const ENDPOINT = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' };
const DEFAULTS = { sampler: 'parentbased_always_on', ratio: 1, warnings: [] };

t.test('tracing is enabled if an endpoint is set and no setting disables it', async t => {
  t.strictSame(readTracingSettings(ENDPOINT), DEFAULTS);
  t.strictSame(readTracingSettings({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://a/v1/traces' }), DEFAULTS);
  for (const disabled of [
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT: '' },
    { OTEL_EXPORTER_OTLP_ENDPOINT: ' ' },
    { OTEL_SERVICE_NAME: 'a' },
    { ...ENDPOINT, OTEL_SDK_DISABLED: 'TRUE' },
    { ...ENDPOINT, OTEL_TRACES_EXPORTER: 'none' },
  ]) {
    t.equal(readTracingSettings(disabled), undefined, JSON.stringify(disabled));
  }
  t.strictSame(readTracingSettings({ ...ENDPOINT, OTEL_SDK_DISABLED: 'false' }), DEFAULTS);
});

t.test('the samplers of the OpenTelemetry specification are accepted, with their ratio', async t => {
  for (const sampler of ['always_on', 'always_off', 'traceidratio', 'parentbased_always_off']) {
    t.match(readTracingSettings({ ...ENDPOINT, OTEL_TRACES_SAMPLER: sampler }), { sampler, ratio: 1, warnings: [] });
  }
  t.match(
    readTracingSettings({
      ...ENDPOINT,
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
    }),
    { sampler: 'parentbased_traceidratio', ratio: 0.25, warnings: [] },
  );
});

t.test('unknown tracing settings cause a warning and the default is used', async t => {
  for (const argument of ['-1', '1.1', 'x']) {
    const settings = readTracingSettings({
      ...ENDPOINT,
      OTEL_TRACES_SAMPLER: 'jaeger_remote',
      OTEL_TRACES_SAMPLER_ARG: argument,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    });
    t.match(settings, {
      sampler: 'parentbased_always_on',
      ratio: 1,
      warnings: [/PROTOCOL/, /SAMPLER is/, /SAMPLER_ARG/],
    });
  }
  t.match(readTracingSettings({ ...ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' }), DEFAULTS);
});
