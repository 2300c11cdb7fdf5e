import { inspect } from 'node:util';
import t from 'tap';
import { readConfig } from '../../src/config/load.ts';

/** Invalid values that hold a secret, each with a different mistake. */
const FAULTY = {
  'kube-api-url': [
    'https://user:s3cret@host',
    'https://user:s3cret@host:x',
    'https://user:s3/cr@et:s3cret@host',
    's3cret@host',
    'https:u:s3cret@host',
    'HTTPS://s3cret@host',
    'ftp://u:s3cret@host',
    'https://u:s3cret?#@host',
    'https://u:s3\ncret@host',
    'https://host/?token=s3cret',
    'https://host/#s3cret',
    'https://u:s3cret@h\n?a@b',
  ],
  'kube-headers': [
    's3cret',
    'authorization=s3cret',
    'host=s3cret',
    'a=s3cret,a=s3cret',
    'dapr-api-token=s3cr\u00e9t',
    '=s3cret',
    'dapr-api-token: s3cret',
    'dapr_api_token=s3cret',
  ],
};

/** Every way to pass a setting, and near misses in which the secret remains an argument's value. */
const argumentVariants = (
  flag: string,
  name: string,
  value: string,
): [args: string[], env: Record<string, string>][] => [
  [[], { [name]: value }],
  [[`--${flag}=${value}`], {}],
  [[`--${flag}`, value], {}],
  [[`--${flag}=${value}`, `--${flag}=${value}`], {}],
  [[`--${flag}x`, value], {}],
  [[`--${flag}x=${value}`], {}],
  [[`${flag}=${value}`], {}],
  [[`-${flag}=${value}`], {}],
  [[], { [`${name}X`]: value }],
];

for (const [flag, values] of Object.entries(FAULTY)) {
  const name = `GATECAR_${flag.toUpperCase().replaceAll('-', '_')}`;
  t.test(`no configuration error shows a secret of ${name}`, async t => {
    for (const value of values) {
      for (const [args, env] of argumentVariants(flag, name, value)) {
        const error = t.throws(() => readConfig(args, env), { name: 'ConfigError' });
        t.notMatch(inspect(error), /s3|cr@et|cr\u00e9t/, JSON.stringify([args, env]));
      }
    }
  });
}

t.test('an error about a setting and its alias shows no secret', async t => {
  for (const value of FAULTY['kube-api-url']) {
    const env = { GATECAR_KUBE_API_URL: value, KUBE_API_SERVER: 'https://user:s3cret@other' };
    const error = t.throws(() => readConfig([], env), { name: 'ConfigError' });
    t.notMatch(inspect(error), /s3|cr@et/, value);
  }
});

t.test('an error shows an invalid address that holds no secret', async t => {
  const errorText = (GATECAR_KUBE_API_URL: string) => inspect(t.throws(() => readConfig([], { GATECAR_KUBE_API_URL })));
  t.match(errorText('kubernetes.example:6443'), 'got "kubernetes.example:6443"');
  t.match(
    errorText('https://user:s3cret@kubernetes.example/a?b'),
    'got "https://[credentials]@kubernetes.example/a?[not shown]"',
  );
});
