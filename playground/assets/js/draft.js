// Brings back the text that was being written in a box when its tab last had this page, and from then on keeps each
// change in the same moment: Gradio's own event comes later, and a page that is left before it would lose the text.
// name: in the tab's storage. id: of the box's component.
(name, id) => {
  const box = `#${id} textarea`;
  const keep = text => {
    try {
      if (text) sessionStorage.setItem(name, text);
      else sessionStorage.removeItem(name);
    } catch { /* the storage is full, or off */ }
  };
  document.addEventListener('input', event => { if (event.target.matches?.(box)) keep(event.target.value); });
  const written = document.querySelector(box)?.value;
  if (written) {
    keep(written);
    return written;
  }
  try { return sessionStorage.getItem(name) || ''; } catch { return ''; }
}
