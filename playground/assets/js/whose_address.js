// "own" where the page was opened with the address that this browser tab wrote itself (write_address.js), else "".
() => {
  try {
    const written = sessionStorage.getItem('gguf-playground-address');
    window.whoseAddress ??= location.search && location.search === written ? 'own' : '';
  } catch { /* the storage is off */ }
  return window.whoseAddress || '';
}
