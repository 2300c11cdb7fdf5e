import { readArgument, redactArgument } from './arguments.ts';
import { crossFaults } from './cross-setting-rules.ts';
import { type Config, SETTINGS, type Setting } from './schema.ts';
import { flagName, formerNames, settingsByFlag } from './setting-names.ts';
import { nearMiss, unknownName } from './suggest-name.ts';

/**
 * All faults in the settings, one line each: the name, the rule and the given value. Secret values
 * are left out.
 */
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
 * Reads the settings from flags and the environment. A flag takes precedence over the environment.
 * Flags are `--name=value`, `--name value`, or `--name` for true.
 *
 * @throws {ConfigError} with all faults at once.
 */
export function readConfig(args: readonly string[], env: Environment): Config {
  const faults: string[] = [];
  const flags = readFlags(args, faults);
  checkNames(env, faults);
  const config: Record<string, unknown> = {};
  const faulty = new Set<string>();
  for (const [key, setting] of ALL) {
    const read = readSetting(setting, flags.get(flagName(setting)) ?? fromEnvironment(setting, env));
    if ('fault' in read) {
      faults.push(read.fault);
      faulty.add(key);
    } else {
      config[key] = read.value;
    }
  }
  faults.push(...crossFaults(config as Config, faulty));
  if (faults.length > 0) throw new ConfigError(faults);
  return Object.freeze(config) as Config;
}

interface Fault {
  readonly fault: string;
}

interface Given {
  readonly source: string;
  readonly text: string;
}

function readSetting(setting: Setting<unknown>, given: Given | Fault | undefined): { value: unknown } | Fault {
  const { type, emptyIsUnset } = setting;
  if (given === undefined || ('text' in given && given.text === '' && emptyIsUnset)) {
    return { value: setting.default === undefined ? undefined : type.parse(setting.default) };
  }
  if ('fault' in given) return given;
  const value = type.parse(given.text);
  if (value === undefined) return { fault: `${given.source} must be ${type.rule}; got ${show(setting, given)}` };
  return { value };
}

function show({ type }: Setting<unknown>, { text }: Given): string {
  return (type.show ?? JSON.stringify)(text);
}

function fromEnvironment(setting: Setting<unknown>, env: Environment): Given | Fault | undefined {
  const given = [setting.name, ...setting.aliases].flatMap((source): Given[] => {
    const text = env[source];
    return text === undefined || (text === '' && setting.emptyIsUnset) ? [] : [{ source, text }];
  });
  const [first] = given;
  if (given.every(({ text }) => text === first?.text)) return first;
  const sources = given.map(({ source }) => source).join(' and ');
  const texts = given.map(one => show(setting, one)).join(' and ');
  return { fault: `${sources} must not be set to different values; got ${texts}` };
}

function readFlags(args: readonly string[], faults: string[]): Map<string, Given | Fault> {
  const known = settingsByFlag();
  const flags = new Map<string, Given | Fault>();
  const rest = [...args];
  while (rest.length > 0) {
    const { name, text, setting, given } = readArgument(rest, known);
    if (setting === undefined) {
      const names = ALL.map(([, one]) => `--${flagName(one)}`);
      faults.push(unknown(redactArgument(given), names, 'argument'));
      continue;
    }
    const current = flagName(setting);
    if (flags.has(current)) flags.set(current, { fault: twice(current, name) });
    else if (text === undefined) flags.set(current, { fault: `--${name} needs a value` });
    else flags.set(current, { source: `--${name}`, text });
  }
  return flags;
}

function twice(current: string, given: string): string {
  return given === current
    ? `--${current} is given twice`
    : `--${current} is given twice; --${given} is its former name`;
}

const SERVICE_LINK_NAME =
  /^GATECAR_(?:[A-Z0-9_]+_)?(?:SERVICE_(?:HOST|PORT)(?:_[A-Z0-9_]+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/;
const SERVICE_LINK_URL = /^(tcp|udp|sctp):\/\//;

/**
 * Whether a variable is a service link. Kubernetes sets these in every pod for each Service, and a
 * Service's name may begin with `gatecar`. Examples: `GATECAR_SERVICE_HOST`,
 * `GATECAR_PORT_9080_TCP_ADDR`, `GATECAR_X_SERVICE_PORT_AUTH`. The value of a bare `…_PORT` link is
 * a URL.
 */
function isServiceLink(name: string, value: string): boolean {
  if (!SERVICE_LINK_NAME.test(name)) return false;
  return !/(?<!_SERVICE|_TCP|_UDP|_SCTP)_PORT$/.test(name) || SERVICE_LINK_URL.test(value);
}

/**
 * Prefixes of aliases that other programs in the pod use too. Only names that are close to an alias
 * are faults, such as a misspelled allowlist, which would let every namespace pass.
 */
const SHARED_PREFIX = /^(BIND|KUBE)_/i;

function checkNames(env: Environment, faults: string[]): void {
  const known = ALL.map(([, setting]) => setting.name as string);
  const accepted = new Set([...known, ...ALL.flatMap(([, setting]) => formerNames(setting))]);
  const shared = ALL.flatMap(([, { aliases }]) => aliases.filter(alias => SHARED_PREFIX.test(alias)));
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || accepted.has(name) || shared.includes(name)) continue;
    if (!name.startsWith('GATECAR_')) {
      const meant = value !== '' && SHARED_PREFIX.test(name) ? nearMiss(name, shared) : undefined;
      if (meant !== undefined) faults.push(`${onOneLine(name)} is no known setting; did you mean ${meant}?`);
    } else if (!isServiceLink(name, value)) faults.push(unknown(name, known, 'setting'));
  }
}

function unknown(name: string, known: readonly string[], what: string): string {
  return unknownName(onOneLine(name), name, known, what);
}

/** Escapes line ends: a fault must stay on one line, whatever the given name is. */
function onOneLine(name: string): string {
  return JSON.stringify(name).slice(1, -1);
}
