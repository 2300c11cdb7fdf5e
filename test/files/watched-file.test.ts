import { rename, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { watchedFile } from '../../src/files/watched-file.ts';
import { fakeClock } from '../fixtures/clock.ts';
import { projectedVolume } from '../fixtures/projected-volume.ts';

const text = (content: Buffer) => content.toString('utf8');

t.test('a changed file is read after one second, and the disk is not accessed before', async t => {
  const path = join(t.testdir({ token: 'old' }), 'token');
  const clock = fakeClock();
  const file = watchedFile(path, clock.now);
  t.ok(file.isDue);
  const first = await file.read();
  t.equal(text(first), 'old');

  await writeFile(path, 'newer');
  clock.advance(999);
  t.notOk(file.isDue);
  t.equal(await file.read(), first);
  clock.advance(1);
  t.ok(file.isDue);
  t.equal(text(await file.read()), 'newer');
});

t.test('a watched file uses the real clock by default', async t => {
  const path = join(t.testdir({ token: 'old' }), 'token');
  const file = watchedFile(path);
  const first = await file.read();
  t.equal(text(first), 'old');
  await writeFile(path, 'new');
  t.equal(await file.read(), first, 'less than a second has passed');
});

t.test('a file in a volume swapped by symlink is re-read, even with the same size and time', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one' });
  const clock = fakeClock();
  const file = watchedFile(volume.path('token'), clock.now);
  t.equal(text(await file.read()), 'one');
  for (const next of ['two', 'six', 'ten']) {
    await volume.swap({ token: next });
    clock.advance(1000);
    t.equal(text(await file.read()), next);
  }
});

t.test('a file swapped for one with the same content keeps its content object', async t => {
  const volume = await projectedVolume(t.testdir(), { token: 'one', 'ca.crt': 'bundle' });
  const clock = fakeClock();
  const file = watchedFile(volume.path('ca.crt'), clock.now);
  const first = await file.read();
  await volume.swap({ token: 'two', 'ca.crt': 'bundle' });
  clock.advance(1000);
  t.equal(await file.read(), first);
  file.drop();
  t.equal(await file.read(), first);
});

t.test('a deleted file keeps its last content, even after a drop, and is re-read when it exists again', async t => {
  const directory = t.testdir({ token: 'old' });
  const path = join(directory, 'token');
  const clock = fakeClock();
  const file = watchedFile(path, clock.now);
  await file.read();
  t.equal(file.failure, undefined);

  await rename(path, join(directory, 'away'));
  clock.advance(1000);
  t.equal(text(await file.read()), 'old');
  t.match(file.failure, { code: 'ENOENT' });
  file.drop();
  t.equal(text(await file.read()), 'old');

  await writeFile(path, 'new');
  clock.advance(1000);
  t.equal(text(await file.read()), 'new');
  t.equal(file.failure, undefined);
});

t.test('reading a file that never existed fails until it exists', async t => {
  const path = join(t.testdir(), 'token');
  const file = watchedFile(path, fakeClock().now);
  await t.rejects(file.read(), { code: 'ENOENT' });
  await t.rejects(file.read(), { code: 'ENOENT' });
  await writeFile(path, 'here');
  t.equal(text(await file.read()), 'here');
});

t.test('reading a directory fails with EISDIR', async t => {
  await t.rejects(watchedFile(t.testdir()).read(), { code: 'EISDIR' });
});

t.test('a dropped file is re-read immediately, even if its metadata is unchanged', async t => {
  const path = join(t.testdir({ token: 'old' }), 'token');
  const time = new Date('2025-01-01T00:00:00Z');
  await utimes(path, time, time);
  const clock = fakeClock();
  const file = watchedFile(path, clock.now);
  await file.read();

  await writeFile(path, 'new');
  await utimes(path, time, time);
  clock.advance(1000);
  t.equal(text(await file.read()), 'old', 'device, inode, size and time are the same');
  file.drop();
  t.equal(text(await file.read()), 'new');
});

t.test('a file is re-read if only its modification time changed', async t => {
  const path = join(t.testdir({ token: 'old' }), 'token');
  const clock = fakeClock();
  const file = watchedFile(path, clock.now);
  await utimes(path, 1, 1);
  await file.read();
  await writeFile(path, 'new');
  await utimes(path, 2, 2);
  clock.advance(1000);
  t.equal(text(await file.read()), 'new');
  await rm(path);
});
