import t from 'tap';
import { SETTINGS, type Setting } from '../../src/config/schema.ts';
import { flagName, formerNames, settingsByFlag } from '../../src/config/setting-names.ts';

const settings: readonly Setting<unknown>[] = Object.values(SETTINGS);

t.test('each setting has one flag, and one more for each former name', async t => {
  const byFlag = settingsByFlag();
  t.equal(byFlag.size, settings.length + settings.flatMap(formerNames).length);
  for (const setting of settings) t.equal(byFlag.get(flagName(setting)), setting);
});

t.test('other programs’ names for a setting have no flag', async t => {
  t.strictSame(formerNames(SETTINGS.kubeConfigFiles), []);
  t.strictSame(formerNames(SETTINGS.auditLog), ['GATECAR_AUDIT']);
});

t.test('a flag can be given by a former name of its setting', async t => {
  t.equal(settingsByFlag().get('grace'), SETTINGS.cacheStaleIfErrorMs);
  t.equal(settingsByFlag().get('cache-stale-if-error'), SETTINGS.cacheStaleIfErrorMs);
});

t.test('a flag is the variable without its prefix, in lower case and with dashes', async t => {
  t.equal(flagName({ name: 'GATECAR_TOKEN_AUDIENCES' }), 'token-audiences');
  t.equal(flagName({ name: 'GATECAR_KUBE_CA_FILE' }), 'kube-ca-file');
  t.equal(flagName({ name: 'GATECAR_MODE' }), 'mode');
});
