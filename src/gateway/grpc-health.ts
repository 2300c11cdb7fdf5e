import type { ServerHttp2Stream } from 'node:http2';
import { answerCall, beginAnswer, failCall, type GrpcCall, STATUS } from './grpc-call.ts';
import { frame } from './grpc-message.ts';
import { delimitedField, message, numberField, ProtobufReader, textBytes } from './protobuf.ts';

/** `grpc.health.v1.HealthCheckResponse.ServingStatus` */
const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;

/** Each watch keeps a stream open for as long as its client likes. */
const MAX_WATCHES = 64;

/** The standard health service, `grpc.health.v1.Health`, for services that serve or do not serve together. */
export interface GrpcHealth {
  setServing(serving: boolean): void;
  check(request: Buffer, call: GrpcCall): void;
  watch(request: Buffer, call: GrpcCall): void;
  list(request: Buffer, call: GrpcCall): void;
  /** Ends all that watch, who would keep their connections open for ever. */
  close(): void;
}

const readRequest = message<{ service: string }>({
  1: (reader, to, request) => {
    request.service = reader.text(reader.at, to);
  },
});

/** @param services by their full names; the empty name is the server. Until it is told otherwise, none of them serves. */
export function grpcHealth(services: readonly string[]): GrpcHealth {
  let status = NOT_SERVING;
  const watching = new Map<ServerHttp2Stream, string>();
  const statusOf = (service: string): number => (services.includes(service) ? status : SERVICE_UNKNOWN);

  return {
    setServing(serving) {
      const now = serving ? SERVING : NOT_SERVING;
      if (now === status) return;
      status = now;
      for (const [stream, service] of watching) if (services.includes(service)) stream.write(response(status));
    },
    check(request, { stream }) {
      const known = statusOf(serviceIn(request));
      if (known === SERVICE_UNKNOWN) failCall(stream, STATUS.NOT_FOUND, 'there is no such service');
      else answerCall(stream, response(known));
    },
    watch(request, { stream }) {
      const service = serviceIn(request);
      if (watching.size >= MAX_WATCHES) return failCall(stream, STATUS.RESOURCE_EXHAUSTED, 'too many watches');
      beginAnswer(stream, { 'grpc-status': String(STATUS.UNAVAILABLE), 'grpc-message': 'shutting down' });
      stream.write(response(statusOf(service)));
      watching.set(stream, service);
      stream.once('close', () => watching.delete(stream));
    },
    list(_request, { stream }) {
      const entry = (service: string) =>
        delimitedField(1, textBytes(service)) + delimitedField(2, numberField(1, status));
      answerCall(stream, frame(services.map(service => delimitedField(1, entry(service))).join('')));
    },
    close() {
      for (const stream of watching.keys()) stream.end();
    },
  };
}

function serviceIn(bytes: Buffer): string {
  const request = { service: '' };
  readRequest(new ProtobufReader(bytes), bytes.length, request);
  return request.service;
}

/** A `HealthCheckResponse`. */
function response(status: number): Buffer {
  return frame(numberField(1, status));
}
