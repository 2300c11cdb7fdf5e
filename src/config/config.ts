import { closest } from './closest.ts';
import { crossFaults } from './rules.ts';
import { type Config, flagName, SETTINGS, type Setting } from './schema.ts';

/** All that is wrong with the settings, one line each: name, rule, value given (never a secret's). */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(faults.join('\n'));
    this.faults = faults;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

const ALL: readonly (readonly [key: string, setting: Setting<unknown>])[] = Object.entries(SETTINGS);

/**
 * Reads the settings from flags (`--name=value`, `--name value`, `--name` for true) and environment; a flag beats the
 * environment.
 *
 * @throws {ConfigError} with every fault at once.
 */
export function readConfig(args: readonly string[], env: Environment): Config {
  const faults: string[] = [];
  const flags = readFlags(args, faults);
  checkNames(env, faults);
  const config: Record<string, unknown> = {};
  for (const [key, setting] of ALL) config[key] = readSetting(setting, flags, env, faults);
  if (faults.length === 0) faults.push(...crossFaults(config as Config));
  if (faults.length > 0) throw new ConfigError(faults);
  return Object.freeze(config) as Config;
}

interface Given {
  readonly source: string;
  readonly text: string;
}

function readSetting(
  setting: Setting<unknown>,
  flags: Map<string, Given>,
  env: Environment,
  faults: string[],
): unknown {
  const given = flags.get(flagName(setting)) ?? fromEnvironment(setting, env, faults);
  if (given === undefined || (given.text === '' && setting.emptyIsUnset)) {
    return setting.default === undefined ? undefined : setting.type.parse(setting.default);
  }
  const value = setting.type.parse(given.text);
  if (value === undefined) {
    const { rule, show = JSON.stringify } = setting.type;
    faults.push(`${given.source} must be ${rule}; got ${show(given.text)}`);
  }
  return value;
}

function fromEnvironment(setting: Setting<unknown>, env: Environment, faults: string[]): Given | undefined {
  const all = [setting.name, ...setting.aliases].flatMap((source): Given[] => {
    const text = env[source];
    return text === undefined || (text === '' && setting.emptyIsUnset) ? [] : [{ source, text }];
  });
  const [first, ...others] = all;
  for (const other of others) {
    if (other.text !== first?.text)
      faults.push(`${first?.source} and ${other.source} are both set, to different values`);
  }
  return first;
}

function readFlags(args: readonly string[], faults: string[]): Map<string, Given> {
  const known = new Map(ALL.map(([, setting]) => [flagName(setting), setting]));
  const flags = new Map<string, Given>();
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    const [, name = '', inline] = /^--([^=]+)(?:=([\s\S]*))?$/.exec(arg) ?? [];
    const setting = known.get(name);
    if (setting === undefined) {
      faults.push(
        unknown(
          name === '' ? arg : `--${name}`,
          [...known.keys()].map(one => `--${one}`),
          'argument',
        ),
      );
      // What follows an unknown flag is most likely its value and no second fault.
      if (name !== '' && inline === undefined && rest[0]?.startsWith('--') === false) rest.shift();
      continue;
    }
    const isSwitch = setting.type.json['type'] === 'boolean' && !/^(true|false)$/.test(rest[0] ?? '');
    const text = inline ?? (isSwitch ? 'true' : rest.shift());
    if (text === undefined) faults.push(`--${name} needs a value`);
    else if (flags.has(name)) faults.push(`--${name} is given twice`);
    else flags.set(name, { source: `--${name}`, text });
  }
  return flags;
}

const SERVICE_LINK_NAME =
  /^GATECAR_(?:[A-Z0-9_]+_)?(?:SERVICE_(?:HOST|PORT)(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/;
const SERVICE_LINK_URL = /^(tcp|udp|sctp):\/\//;

/**
 * Whether Kubernetes sets this in every pod for a Service whose name begins with `gatecar` (service links), as it does
 * `GATECAR_SERVICE_HOST`, `GATECAR_PORT_9080_TCP_ADDR`, `GATECAR_X_SERVICE_PORT_AUTH`. A bare `…_PORT` of theirs is a URL.
 */
function isServiceLink(name: string, value: string): boolean {
  if (!SERVICE_LINK_NAME.test(name)) return false;
  return !/(?<!_SERVICE|_TCP|_UDP|_SCTP)_PORT$/.test(name) || SERVICE_LINK_URL.test(value);
}

function checkNames(env: Environment, faults: string[]): void {
  const known = ALL.map(([, setting]) => setting.name as string);
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('GATECAR_') || known.includes(name) || isServiceLink(name, value ?? '')) continue;
    faults.push(unknown(name, known, 'setting'));
  }
}

function unknown(name: string, known: readonly string[], what: string): string {
  const nearest = closest(name, known);
  return `${name} is no known ${what}${nearest === undefined ? '' : `; did you mean ${nearest}?`}`;
}
