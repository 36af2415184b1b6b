// Keeps the chosen model and the sampling settings in the storage of this browser tab, in the form of a saved chat.
// names: of the numbers that follow model, level, context, precision of the KV cache, where it runs, which GPU, layers on
// the GPU, layers whose experts stay in RAM, how much it thinks, and system prompt.
(name, names, [model, level, context, kv_type, where, gpu, layers, experts, thinking, system, ...numbers]) => {
  const onGpu = where === 'gpu' ? ':all' : where === 'layers' ? `:${Number(layers) || 0}` : '';
  const inRam = Number.isInteger(experts) && experts >= 0 ? `,experts=${experts}` : '';
  const device = ['auto', 'gpu', 'layers'].includes(where) ? (gpu || 'auto') + onGpu + inRam : where;
  const settings = {context_size: Number(context) || null, kv_type, device, thinking};
  names.forEach((each, place) => { settings[each] = numbers[place]; });
  try { sessionStorage.setItem(name, JSON.stringify({choice: {model, level}, settings, system})); } catch { /* full, or off */ }
}
