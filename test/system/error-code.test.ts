import t from 'tap';
import { errorCode } from '../../src/system/error-code.ts';

t.test('an error has a code or an unknown one, never its message', async t => {
  t.equal(errorCode(Object.assign(new Error('secret'), { code: 'EACCES' })), 'EACCES');
  for (const strange of [new Error('secret'), { code: 7 }, 'secret', null, undefined]) {
    t.equal(errorCode(strange), 'unknown error');
  }
});
