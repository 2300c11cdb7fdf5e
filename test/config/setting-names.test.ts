import t from 'tap';
import { SETTINGS, type Setting } from '../../src/config/schema.ts';
import { flagName, formerNames, settingsByFlag } from '../../src/config/setting-names.ts';

const settings: readonly Setting<unknown>[] = Object.values(SETTINGS);

t.test('each setting has a flag for its name and for each former name', async t => {
  const byFlag = settingsByFlag();
  t.equal(byFlag.size, settings.length + settings.flatMap(formerNames).length);
  for (const setting of settings) t.equal(byFlag.get(flagName(setting)), setting);
});

t.test('an alias that is another program’s name has no flag', async t => {
  t.strictSame(formerNames(SETTINGS.kubeConfigFiles), []);
  t.strictSame(formerNames(SETTINGS.auditLog), ['GATECAR_AUDIT']);
});

t.test('a setting is found by the flag of its former name', async t => {
  t.equal(settingsByFlag().get('grace'), SETTINGS.cacheStaleIfErrorMs);
  t.equal(settingsByFlag().get('cache-stale-if-error'), SETTINGS.cacheStaleIfErrorMs);
});

t.test('a flag’s name is the variable’s without prefix, in lower case and with dashes', async t => {
  t.equal(flagName({ name: 'GATECAR_TOKEN_AUDIENCES' }), 'token-audiences');
  t.equal(flagName({ name: 'GATECAR_KUBE_CA_FILE' }), 'kube-ca-file');
  t.equal(flagName({ name: 'GATECAR_MODE' }), 'mode');
});
