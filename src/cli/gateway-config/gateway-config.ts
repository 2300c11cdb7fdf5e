import { readCommandLine } from '../../config/arguments.ts';
import { readConfig } from '../../config/load.ts';
import type { Config } from '../../config/schema.ts';
import { unknownChoice } from '../../config/suggest-name.ts';
import { type CommandContext, UsageError } from '../command.ts';
import { GATEWAYS, type GatewayName, gatewayText } from './templates.ts';

const NAMES = Object.keys(GATEWAYS) as GatewayName[];

/**
 * Runs `gatecar gateway <name> [file]`: prints the gateway's configuration for the current
 * settings. Writes to standard error what the operator still has to change.
 *
 * @returns the exit code, 0.
 * @throws {UsageError | ConfigError}
 */
export async function gatewayCommand({ args, env, terminal }: CommandContext): Promise<number> {
  const { operands, settings } = readCommandLine(args, []);
  const [given, wanted, ...more] = operands;
  if (given === undefined || more.length > 0) throw new UsageError(`gateway takes one name of ${NAMES.join(', ')}`);
  const name = NAMES.find(one => one === given);
  if (name === undefined) throw new UsageError(unknownChoice(given, NAMES, 'gateway'));
  const files: readonly string[] = GATEWAYS[name].files;
  const names = files.map(nameOf);
  const file = wanted === undefined ? files[0] : files.find(one => nameOf(one) === wanted);
  if (file === undefined) throw new UsageError(unknownChoice(wanted as string, names, `file of ${name}`));
  const config = readConfig(settings, env);
  terminal.write(await gatewayText(name, file, config));
  const others = names.filter(one => one !== nameOf(file));
  if (wanted === undefined && others.length > 0) {
    terminal.complain(`gatecar: another file: ${others.map(one => `gatecar gateway ${name} ${one}`).join(', ')}\n`);
  }
  for (const note of notes(name, config)) terminal.complain(`gatecar: ${note}\n`);
  return 0;
}

function nameOf(file: string): string {
  return file.slice(file.indexOf('/') + 1);
}

/** Lists what the operator has to change in the printed configuration. */
function notes(name: GatewayName, { grpcListen, tlsCertFile }: Config): string[] {
  const asksByGrpc = name === 'envoy-grpc' || name === 'contour';
  const knowsTls = 'tls' in GATEWAYS[name];
  const tls = knowsTls
    ? "replace the name and the CA file by those of gatecar's certificate"
    : 'this example calls gatecar without TLS, which these settings require: see its page in docs/gateways';
  return [
    ...(asksByGrpc && grpcListen === undefined
      ? ['this gateway calls gatecar over gRPC, which is off: set GATECAR_GRPC_LISTEN=:9082']
      : []),
    ...('asked' in GATEWAYS[name] ? [] : ['replace the name and port of the Service by those of your gatecar']),
    ...(tlsCertFile === undefined ? [] : [tls]),
  ];
}
