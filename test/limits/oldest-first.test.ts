import t from 'tap';
import { type Listed, OldestFirst } from '../../src/limits/oldest-first.ts';

class Item implements Listed<Item> {
  older: Item | undefined;
  newer: Item | undefined;
  isListed = false;
}

function orderOf(list: OldestFirst<Item>, items: readonly Item[]): number[] {
  const order: number[] = [];
  for (let item = list.oldest; item !== undefined; item = item.newer) order.push(items.indexOf(item));
  return order;
}

t.test('items are listed in the order in which they were added, whichever are removed', async t => {
  const items = [new Item(), new Item(), new Item(), new Item()] as const;
  const [first, second, third, fourth] = items;
  const list = new OldestFirst<Item>();
  for (const item of items) list.add(item);
  t.strictSame(orderOf(list, items), [0, 1, 2, 3]);
  list.remove(second);
  t.strictSame(orderOf(list, items), [0, 2, 3]);
  list.remove(first);
  list.remove(fourth);
  t.strictSame(orderOf(list, items), [2]);
  list.add(first);
  t.strictSame(orderOf(list, items), [2, 0]);
  list.remove(third);
  list.remove(first);
  t.strictSame([list.oldest, list.size], [undefined, 0]);
});

t.test('adding or removing an item twice has no further effect', async t => {
  const [first, second] = [new Item(), new Item()];
  const list = new OldestFirst<Item>();
  list.add(first);
  list.add(second);
  list.add(first);
  t.strictSame(orderOf(list, [first, second]), [0, 1]);
  list.remove(first);
  list.remove(first);
  t.strictSame([orderOf(list, [first, second]), list.size], [[1], 1]);
});
