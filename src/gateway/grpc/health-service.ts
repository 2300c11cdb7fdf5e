import { answerCall, failCall, type GrpcCall, STATUS } from './grpc-call.ts';
import { frame } from './message/message-reader.ts';
import { decoded, delimitedField, message, numberField, ProtobufReader, textBytes } from './message/protobuf.ts';

/** `grpc.health.v1.HealthCheckResponse.ServingStatus` */
const SERVING = 1;
const NOT_SERVING = 2;

/**
 * The unary methods of the standard health service, `grpc.health.v1.Health`. All services have the
 * same status.
 *
 * `Watch` is not implemented, as the protocol allows. The probes of the kubelet and of Envoy call
 * `Check`.
 */
export interface GrpcHealth {
  setServing(serving: boolean): void;
  check(request: Buffer, call: GrpcCall): void;
  list(request: Buffer, call: GrpcCall): void;
}

const readRequest = message<{ service: string }>({
  1: (reader, to, request) => {
    request.service = reader.text(reader.at, to);
  },
});

/**
 * Creates the health service. The status is `NOT_SERVING` at first.
 *
 * @param services full names of the services; the empty name is the server.
 */
export function grpcHealth(services: readonly string[]): GrpcHealth {
  let status = NOT_SERVING;
  return {
    setServing(serving) {
      status = serving ? SERVING : NOT_SERVING;
    },
    check(request, { stream }) {
      const service = decoded(() => serviceIn(request));
      if (service === undefined) failCall(stream, STATUS.INTERNAL, 'the message cannot be read');
      else if (services.includes(service)) answerCall(stream, frame(numberField(1, status)));
      else failCall(stream, STATUS.NOT_FOUND, 'there is no such service');
    },
    list(_request, { stream }) {
      const entry = (service: string) =>
        delimitedField(1, textBytes(service)) + delimitedField(2, numberField(1, status));
      answerCall(stream, frame(services.map(service => delimitedField(1, entry(service))).join('')));
    },
  };
}

function serviceIn(bytes: Buffer): string {
  const request = { service: '' };
  readRequest(new ProtobufReader(bytes), bytes.length, request);
  return request.service;
}
