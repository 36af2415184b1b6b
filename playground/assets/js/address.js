// The page's address follows the set-up of a comparison once the visitor has changed it: what a link would carry
// (app/compare/setup.py), without what makes an address too long. texts: of the comparison, with its question.
// The tab's storage knows that the address is its own, so that a reload opens the page as it was, not as a link does.
(isTouched, model, dial, leftModel, leftLevel, leftContext, rightModel, rightLevel, rightContext, mode, temperature, seed, system, texts) => {
  const LONGEST = 4000;
  window.compareTouched ||= isTouched;
  if (!window.compareTouched) return;
  const read = text => { try { return JSON.parse(text) || {}; } catch { return {}; } };
  const levels = read(dial), sides = {
    left: [leftModel || model, levels.a || leftLevel, leftContext], right: [rightModel || model, levels.b || rightLevel, rightContext],
  };
  const fields = {mode, temperature, seed: seed >= 0 ? seed : '', system};
  for (const [side, [name, level, context]] of Object.entries(sides)) {
    fields[side] = name && level ? `${name}:${level}` : '';
    fields[`${side}_context`] = name && level ? context : '';
  }
  const messages = read(texts).panes?.[0]?.messages ?? [];
  fields.prompt = messages.filter(message => message.role === 'user').at(-1)?.content;
  const query = new URLSearchParams(location.search);
  for (const name of [...query.keys()]) if (name in fields || /^(left|right)_/.test(name)) query.delete(name);
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
