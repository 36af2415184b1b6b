// The shelf of skills in this browser's storage, which all its tabs share and no server has.
(action, name, text) => {
  try {
    if (action === 'read') return localStorage.getItem(name) || '';
    if (text) localStorage.setItem(name, text);
    else localStorage.removeItem(name);
  } catch { /* the storage is full, or off */ }
  return '';
}
