import {
  createTraceState,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import type { RequestTrace, ReviewSpan } from '../authentication/token-authenticator.ts';
import type { TracingSettings } from '../config/tracing-settings.ts';
import type { DecisionEvent, StartTrace } from '../gateway/decision-event.ts';
import type { TraceContext } from '../gateway/trace-context.ts';
import { TRACE_FLUSH_LIMIT_MS } from '../limits/constants.ts';
import type { Logger } from './logging/logger.ts';

/** Spans of requests and of their reviews, exported over OTLP. */
export interface Tracing {
  readonly startTrace: StartTrace;
  /** Ends the request's span. */
  decided(decided: DecisionEvent): void;
  /** Exports the remaining spans, for a limited time. */
  close(): Promise<void>;
}

/**
 * Starts exporting spans to the endpoint that OpenTelemetry's environment variables name. Spans are
 * sent in batches in the background: a receiver that fails or hangs delays no response. Spans that
 * do not fit the queue are dropped. Export failures are logged once.
 *
 * No attribute contains client input: no token, path or name.
 */
export function openTracing(settings: TracingSettings, version: string, log: Logger): Tracing {
  for (const warning of settings.warnings) log.warn(warning);
  const resource = defaultResource()
    .merge(resourceFromAttributes({ 'service.name': 'gatecar', 'service.version': version }))
    .merge(detectResources({ detectors: [envDetector] }));
  const exporter = withFailureLogging(new OTLPTraceExporter(), log);
  const provider = new TracerProvider({
    resource,
    sampler: samplerOf(settings),
    spanProcessors: [new BatchSpanProcessor({ exporter })],
  });
  const tracer = provider.getTracer('gatecar', version);
  return {
    startTrace: parent => new RequestSpan(tracer, parent()),
    decided({ trace, ...decided }) {
      if (trace instanceof RequestSpan) trace.end(decided);
    },
    async close() {
      const { promise: late, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, TRACE_FLUSH_LIMIT_MS);
      await Promise.race([provider.shutdown().catch(() => {}), late]);
      clearTimeout(timer);
    },
  };
}

/** A request with a span of its own, a child of the gateway's span if the gateway sent one. */
class RequestSpan implements RequestTrace {
  source: RequestTrace['source'] = 'local';
  readonly #tracer: Tracer;
  readonly #span: Span;

  constructor(tracer: Tracer, parent: TraceContext | undefined) {
    this.#tracer = tracer;
    this.#span = tracer.startSpan('authorize', { kind: SpanKind.SERVER }, parent && contextOf(parent));
  }

  get span() {
    return this.#span.spanContext();
  }

  startReviewSpan(): ReviewSpan {
    const above = trace.setSpan(ROOT_CONTEXT, this.#span);
    const span = this.#tracer.startSpan('TokenReview', { kind: SpanKind.CLIENT }, above);
    const { traceId, spanId, traceFlags, traceState } = span.spanContext();
    const flags = traceFlags.toString(16).padStart(2, '0');
    const tracestate = traceState?.serialize();
    return {
      headers: { traceparent: `00-${traceId}-${spanId}-${flags}`, ...(tracestate && { tracestate }) },
      end(outcome) {
        span.setAttribute('gatecar.outcome', outcome);
        if (outcome !== 'authenticated' && outcome !== 'rejected') span.setStatus({ code: SpanStatusCode.ERROR });
        span.end();
      },
    };
  }

  end({ decision, protocol, answer }: Omit<DecisionEvent, 'trace'>): void {
    this.#span.setAttributes({
      'gatecar.protocol': protocol,
      'gatecar.decision': decision.kind,
      'gatecar.source': this.source,
      ...(decision.kind !== 'allow' && { 'gatecar.reason': decision.reason }),
      ...(decision.kind === 'unavailable' && { 'gatecar.cause': decision.cause }),
      'http.response.status_code': answer.status,
    });
    if (decision.kind === 'unavailable') this.#span.setStatus({ code: SpanStatusCode.ERROR });
    this.#span.end();
  }
}

function contextOf({ traceId, spanId, flags, state }: TraceContext) {
  const traceState = state === undefined ? {} : { traceState: createTraceState(state) };
  const traceFlags = flags & TraceFlags.SAMPLED;
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true, ...traceState });
}

function samplerOf({ sampler, ratio }: TracingSettings): Sampler {
  const root = sampler.endsWith('always_on')
    ? new AlwaysOnSampler()
    : sampler.endsWith('always_off')
      ? new AlwaysOffSampler()
      : new TraceIdRatioBasedSampler(ratio);
  return sampler.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root;
}

/** Wraps an exporter to log one line when it starts failing and one when it works again. */
function withFailureLogging(exporter: SpanExporter, log: Logger): SpanExporter {
  let failing = false;
  return {
    export(spans, done) {
      exporter.export(spans, result => {
        const { error } = result;
        if (error !== undefined && !failing) log.warn({ err: error }, 'trace export failed');
        if (error === undefined && failing) log.info('trace export succeeded again');
        failing = error !== undefined;
        done(result);
      });
    },
    shutdown: () => exporter.shutdown(),
  };
}
