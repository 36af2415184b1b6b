// Keeps the chosen model and the sampling settings in the storage of this browser tab, in the form of a saved chat, and
// returns them. deviceText: device_text.js. names: of the numbers that follow model, level, context, precision of the KV
// cache, where it runs, which GPU, layers on the GPU, layers whose experts stay in RAM, how much it thinks, and system prompt.
(deviceText, name, names, [model, level, context, kv_type, where, gpu, layers, experts, thinking, system, ...numbers]) => {
  const device = deviceText(where, gpu, layers, experts);
  const settings = {context_size: Number(context) || null, kv_type, device, thinking};
  names.forEach((each, place) => { settings[each] = numbers[place]; });
  const kept = {choice: {model, level}, settings, system};
  try { sessionStorage.setItem(name, JSON.stringify(kept)); } catch { /* full, or off */ }
  return kept;
}
