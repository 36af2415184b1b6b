// The set-up of a comparison as the fields of a link (app/compare/setup.py), "" for what needs no mention.
// deviceText: device_text.js. usualTokens: of an answer, where nobody chose. texts: of the comparison, with its question. pickers: nine values of each, one after the other.
(deviceText, usualTokens, model, dial, mode, temperature, seed, system, tokens, blind, followUp, texts, ...pickers) => {
  const read = text => { try { return JSON.parse(text) || {}; } catch { return {}; } };
  const levels = read(dial);
  const fields = {
    mode, temperature, seed: seed >= 0 ? seed : '', system, max_tokens: tokens === usualTokens ? '' : tokens,
    blind: blind ? 'yes' : '', follow_up: followUp ? 'yes' : '',
  };
  for (const [place, side] of ['left', 'right'].entries()) {
    const [ownModel, ownLevel, context, kvType, where, gpu, layers, experts, thinking] = pickers.slice(9 * place);
    const name = ownModel || model, level = levels['ab'[place]] || ownLevel;
    fields[side] = name && level ? `${name}:${level}` : '';
    if (!fields[side]) continue;
    const device = deviceText(where, gpu, layers, experts);
    fields[`${side}_context`] = context;
    fields[`${side}_kv`] = kvType === 'f16' ? '' : kvType;
    fields[`${side}_device`] = device === 'auto' ? '' : device;
    fields[`${side}_thinking`] = thinking;
  }
  const messages = read(texts).panes?.[0]?.messages ?? [];
  fields.prompt = messages.filter(message => message.role === 'user').at(-1)?.content;
  return fields;
}
