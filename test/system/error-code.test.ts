import t from 'tap';
import { errorCode } from '../../src/system/error-code.ts';

t.test('errorCode returns the code of an error or `unknown error`, never its message', async t => {
  t.equal(errorCode(Object.assign(new Error('secret'), { code: 'EACCES' })), 'EACCES');
  for (const withoutCode of [new Error('secret'), { code: 7 }, 'secret', null, undefined]) {
    t.equal(errorCode(withoutCode), 'unknown error');
  }
});
