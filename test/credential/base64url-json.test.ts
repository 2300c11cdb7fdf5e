import t from 'tap';
import { decodeJsonObject } from '../../src/credential/base64url-json.ts';

const encode = (text: string): string => Buffer.from(text).toString('base64url');

t.test('only a JSON object in base64url is decoded', async t => {
  t.strictSame(decodeJsonObject(encode('{"iss":"é"}')), { iss: 'é' });
  for (const text of ['[]', 'null', '1', '"{}"', '{', '']) t.equal(decodeJsonObject(encode(text)), undefined, text);
});
