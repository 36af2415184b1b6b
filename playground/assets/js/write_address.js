// Writes a set-up into the page's address, without what makes an address too long; what else it says stays.
// fields: by name, "" for what needs no mention. belongs: the names that are of this set-up.
// The tab's storage knows that the address is its own, so that a reload opens the page as it was, not as a link does.
(fields, belongs) => {
  const LONGEST = 4000;
  const query = new URLSearchParams(location.search);
  for (const name of [...query.keys()]) if (name in fields || belongs.test(name)) query.delete(name);
  for (const [name, value] of Object.entries(fields)) {
    const text = String(value ?? '').trim();
    if (text && query.toString().length + text.length < LONGEST) query.set(name, text);
  }
  const address = query.size ? `?${query}` : '';
  history.replaceState(history.state, '', location.pathname + address + location.hash);
  try {
    sessionStorage.setItem('gguf-playground-address', address);
  } catch { /* the storage is off */ }
}
