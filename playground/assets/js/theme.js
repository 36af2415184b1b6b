// Light, dark, or as the system: what the visitor chose, kept by this browser. It stands in the head of the page's file,
// because Gradio 6.31 asks matchMedia for the system's scheme before anything is drawn.
(() => {
  const KEPT = 'gguf-playground-theme', NAMES = ['system', 'light', 'dark'], QUERY = '(prefers-color-scheme: dark)';
  const ask = window.matchMedia.bind(window), system = ask(QUERY);
  let theme = 'system';
  try {
    const kept = localStorage.getItem(KEPT);
    if (NAMES.includes(kept)) theme = kept;
  } catch { /* the storage is off */ }
  const isDark = () => theme === 'system' ? system.matches : theme === 'dark';

  window.matchMedia = query => query !== QUERY ? ask(query) : {
    get matches() { return isDark(); },
    media: query,
    addEventListener: (...listener) => system.addEventListener(...listener),
    removeEventListener: (...listener) => system.removeEventListener(...listener),
  };
  window.playgroundTheme = {
    name: () => theme,
    next() {
      theme = NAMES[(NAMES.indexOf(theme) + 1) % NAMES.length];
      document.body.classList.toggle('dark', isDark());
      try {
        localStorage.setItem(KEPT, theme);
      } catch { /* the storage is off */ }
    },
  };
})();
