import type { Environment } from './load.ts';

/** Values of OpenTelemetry's variables that its library does not read itself. */
export interface TracingSettings {
  /** `OTEL_TRACES_SAMPLER`, or the default if the variable is not a standard sampler. */
  readonly sampler: SamplerName;
  /** `OTEL_TRACES_SAMPLER_ARG`: the share of traces that is sampled, from 0 to 1. */
  readonly ratio: number;
  /** Log messages about values that are ignored. */
  readonly warnings: readonly string[];
}

const SAMPLERS = [
  ...(['always_on', 'always_off', 'traceidratio'] as const),
  ...(['parentbased_always_on', 'parentbased_always_off', 'parentbased_traceidratio'] as const),
] as const;
export type SamplerName = (typeof SAMPLERS)[number];

const PROTOCOL = 'http/protobuf';

/**
 * Reads whether gatecar sends spans (OpenTelemetry, Environment Variable Specification). The
 * library itself reads where to send them. As the specification requires, unknown values cause a
 * warning and are ignored.
 *
 * @returns `undefined` if no endpoint is set, or if the SDK or its exporter is turned off.
 */
export function readTracingSettings(env: Environment): TracingSettings | undefined {
  const read = (name: string): string => env[name]?.trim() ?? '';
  const endpoint = read('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT') || read('OTEL_EXPORTER_OTLP_ENDPOINT');
  const isOff = read('OTEL_SDK_DISABLED').toLowerCase() === 'true' || read('OTEL_TRACES_EXPORTER') === 'none';
  if (endpoint === '' || isOff) return undefined;

  const warnings: string[] = [];
  const protocol = read('OTEL_EXPORTER_OTLP_TRACES_PROTOCOL') || read('OTEL_EXPORTER_OTLP_PROTOCOL') || PROTOCOL;
  if (protocol !== PROTOCOL)
    warnings.push(`spans are sent by ${PROTOCOL} alone, whatever OTEL_EXPORTER_OTLP_PROTOCOL is`);
  const wanted = read('OTEL_TRACES_SAMPLER') || 'parentbased_always_on';
  const sampler = SAMPLERS.find(name => name === wanted);
  if (sampler === undefined) warnings.push('OTEL_TRACES_SAMPLER is none that is known: parentbased_always_on is used');
  const text = read('OTEL_TRACES_SAMPLER_ARG');
  const ratio = text === '' ? 1 : Number(text);
  const isRatio = ratio >= 0 && ratio <= 1;
  if (!isRatio) warnings.push('OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1: 1 is used');
  return { sampler: sampler ?? 'parentbased_always_on', ratio: isRatio ? ratio : 1, warnings };
}
