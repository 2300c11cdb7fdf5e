import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import t from 'tap';
import { boundPlugins } from '../../src/authority/exec-plugin.ts';
import { execUser, kubeconfig, pluginRuns } from '../fixtures/kubeconfig.ts';
import { scratch } from '../fixtures/scratch.ts';
import { until } from '../fixtures/until.ts';

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

function bounded(user: object, ms: number): KubeConfig {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig({ user } as never));
  boundPlugins(config, ms);
  return config;
}

t.test('a plugin that takes too long is ended, and its run fails', async t => {
  const file = join(scratch(t), 'runs');
  // It says that it runs before it hangs; ended before that, it is run anew.
  let ms = 500;
  for (;;) {
    await t.rejects(bounded(execUser('hang-at-first', file), ms).applyToHTTPSOptions({}));
    const [pid] = pluginRuns(file);
    if (pid !== undefined) {
      await until(() => !isAlive(Number(pid)));
      break;
    }
    ms *= 2;
  }
});

t.test('one that is in time gives its credential', async t => {
  const options = { headers: {} as Record<string, string> };
  await bounded(execUser('token'), 60_000).applyToHTTPSOptions(options);
  t.equal(options.headers.Authorization, 'Bearer plugin-token-1');
});

t.test('one without arguments is bounded too', async t => {
  await t.rejects(bounded({ exec: { command: '/not/there' } }, 60_000).applyToHTTPSOptions({}), { code: 'ENOENT' });
});
