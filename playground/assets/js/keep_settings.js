// Keeps the chosen model and the sampling settings in the storage of this browser tab, in the form of a saved chat.
// names: of the numbers that follow model, level, context, precision of the KV cache, where it runs, layers on the GPU,
// and system prompt.
(name, names, [model, level, context, kv_type, where, layers, system, ...numbers]) => {
  const device = where === 'gpu' ? 'auto:all' : where === 'layers' ? `auto:${Number(layers) || 0}` : where;
  const settings = {context_size: Number(context) || null, kv_type, device};
  names.forEach((each, place) => { settings[each] = numbers[place]; });
  try { sessionStorage.setItem(name, JSON.stringify({choice: {model, level}, settings, system})); } catch { /* full, or off */ }
}
