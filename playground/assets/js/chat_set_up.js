// Keeps Chat's set-up for a reload, and lets the page's address follow it once the visitor has chosen or asked something.
// Neither before the page is open: until then what its tab kept, or what a link asks for, is still being drawn.
// keepSettings: from values to what is kept (keep_settings.js). isTouched: a person did something just now.
(keepSettings, writeAddress, isTouched, values) => {
  window.chatTouched ||= isTouched;
  if (!window.chatIsOpen) return;
  const {choice, settings} = keepSettings(values);
  if (!window.chatTouched || !choice.model || !choice.level) return;
  writeAddress({
    ...(isTouched ? {tab: 'chat'} : {}),
    chat: `${choice.model}:${choice.level}`,
    chat_context: settings.context_size,
    chat_kv: settings.kv_type === 'f16' ? '' : settings.kv_type,
    chat_device: settings.device === 'auto' ? '' : settings.device,
    chat_thinking: settings.thinking,
  }, /^chat_/);
}
