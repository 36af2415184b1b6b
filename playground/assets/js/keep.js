// Keeps a text in the storage of this browser tab: it survives a reload, other tabs do not see it, no server has it.
(name, text) => {
  try {
    if (text) sessionStorage.setItem(name, text);
    else sessionStorage.removeItem(name);
  } catch {
    try {
      sessionStorage.removeItem(name);
      if (name.endsWith('-chat')) sessionStorage.setItem(name, 'too long');
    } catch { /* the storage is off */ }
  }
}
