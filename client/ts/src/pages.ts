/** A page of any list. */
export interface Page<Item> {
  items: Item[];
  next_cursor?: string;
}

/** Goes through all items of a list, page by page; page asks for the page behind a cursor, undefined for the first. */
export async function* each<Item>(page: (cursor: string | undefined) => Promise<Page<Item>>): AsyncGenerator<Item, void, undefined> {
  let cursor: string | undefined;
  do {
    const next = await page(cursor);
    yield* next.items;
    cursor = next.next_cursor;
  } while (cursor !== undefined);
}
