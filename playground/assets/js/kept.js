// The texts that keep.js kept under these names, "" for one that is not there. A missing key is made: 128 random bits.
names => names.map(name => {
  let text = '';
  try { text = sessionStorage.getItem(name) || ''; } catch { /* the storage is off */ }
  if (name.endsWith('-key') && !/^[0-9a-f]{32}$/.test(text))
    return [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('');
  return text;
})
